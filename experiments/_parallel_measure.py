"""What `parallel_in_time` measures: an engine's iterations, errors, time and memory, and a network's exponent."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import initializers as inits
from rnnlab import probes
from rnnlab.cells import elman, own
from rnnlab.engines import associative, diagonal, fused, newton, scan
from rnnlab.types import Cell, Engine, PyTree
from rnnlab.unroll import unroll

SCAN, FULL, QUASI = "scan", "full", "quasi"  # step after step, and Newton's method with whole Jacobians and without
ENGINES = (SCAN, "fused", FULL, QUASI, "associative")


def engines_of(cell: Cell, tol: float, max_iterations: int) -> dict[str, Engine]:
    """Those that take the cell, by name."""
    found = {
        SCAN: scan, "fused": cell.local and fused, FULL: newton(tol or None, max_iterations),
        QUASI: newton(tol or None, max_iterations, jacobian=diagonal), "associative": cell.affine and associative,
    }  # fmt: skip
    return {name: engine for name, engine in found.items() if engine}


class Sizes(NamedTuple):
    """B, T, D, H."""

    batch: int
    length: int
    dim: int
    hidden: int


class Drawn(NamedTuple):
    """A network at initialisation and its inputs [T, B, D]."""

    params: PyTree
    xs: jax.Array


def drawn(cell: Cell, sizes: Sizes, seed: int, scale: float = 1.0) -> Drawn:
    """Parameters by the cell's initialisers; inputs generated, N(0, scale^2); float32."""
    init, inputs = jax.random.split(jax.random.key(seed))
    shape = sizes.length, sizes.batch, sizes.dim
    return Drawn(cell.init(init, sizes.dim), scale * jax.random.normal(inputs, shape, jnp.float32))


def cell_of(name: str, hidden: int) -> Cell:
    return own.factory(name)(hidden)


def gained(hidden: int, gain: float) -> Cell:
    """An Elman network with U of N(0, gain^2 / H): beyond a gain of about 1, and with weak inputs, it is chaotic."""
    return elman(hidden, recurrent=inits.normal(gain))


def found(cell: Cell, engine: Engine) -> Callable[[Drawn], dict[str, Any]]:
    """What the engine says of one network, and how far its carries are from the scan's, the largest entry.

    Iterations: the most of any example. converged: the share of examples.
    """

    @jax.jit
    def measured(given: Drawn) -> tuple[Any, jax.Array]:
        out, exact = (unroll(cell, *given, engine=one) for one in (engine, scan))
        apart = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), out.carries, exact.carries)
        return out.info, jnp.stack(jax.tree.leaves(apart)).max()

    def of(given: Drawn) -> dict[str, Any]:
        info, error = jax.device_get(measured(given))
        said = {"iterations": 0, "residual": 0.0, "converged": 1.0}
        if info:
            said = {
                "iterations": int(info.iterations.max()), "residual": float(info.residual.max()),
                "converged": float(info.converged.mean()),
            }  # fmt: skip
        return said | {"error": float(error)}

    return of


def exponent(cell: Cell) -> Callable[[Drawn, int], float]:
    """The largest Lyapunov exponent of the first example, nats a step."""
    measured = jax.jit(lambda given, key: probes.largest_exponent(cell, given.params, given.xs[:, 0], key))
    return lambda given, seed: float(measured(given, jax.random.key(seed)))


class Program(NamedTuple):
    """run: the training step, compiled. temporary: bytes that it takes beside arguments and results."""

    run: Callable[..., Any]
    temporary: int


def training_step(cell: Cell, engine: Engine, given: Drawn) -> Program:
    """The mean of all outputs and its gradients with respect to the parameters, for networks of `given`'s shapes."""
    step = jax.jit(jax.value_and_grad(lambda params, xs: unroll(cell, params, xs, engine=engine).ys.mean()))
    compiled = step.lower(*given).compile()
    return Program(compiled, compiled.memory_analysis().temp_size_in_bytes)
