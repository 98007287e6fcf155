"""What each step puts into the parameters' gradient: the terms of the sum that backpropagation through time is."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

from rnnlab.probes.gradients import log_norm
from rnnlab.probes.log_adjoint import Pass, Pulled, Recorded, as_stack, output_gradient, pull_back, record
from rnnlab.probes.scaled import Scaled, ln2, log_scaled, shifted
from rnnlab.types import Cell, Directions, PyTree
from rnnlab.wrappers import hold


class Contributions(NamedTuple):
    """Natural logarithms of Euclidean norms of each step's own part of dL_b/dtheta; -inf where it is 0 (at padding).

    joint: [L, T, *B], over all parameters of a layer. A bidirectional layer counts as two, forward first.
    parts: the same for each parameter: a tuple, one NamedTuple of parameters a layer, its leaves [T, *B];
           `parts[2].U` is ln ||dL/dU through step t|| of the third layer.
    """

    joint: Float[Array, "L T ..."]
    parts: tuple[PyTree, ...]


def contributions(
    cells: Cell | Directions | Sequence[Cell | Directions],
    params: PyTree,
    xs: Shaped[Array | np.ndarray, "T ..."],
    loss: Callable[[Array], Array],
    *,
    together: int = 1,
    **how: PyTree,
) -> Contributions:
    """ln ||g_t|| of every step, layer, parameter and example: g_t is dL/dtheta by way of step t alone, its drive, step,
    read and share of `prepare`, every other step's parameters held; dL/dtheta is the sum of g_t over t.

        g_t = (d carry_t / d theta)^T dL/dcarry_t + (d y_t / d theta)^T dL/dy_t

    for any cell, by a vjp of each step of each example; float32-safe, as `log_gradient_norms` is. loss, how: as there.
    together: steps that are computed side by side. What a learned first carry gets counts
    to the step that begins at it.

    Cost: the log-domain adjoint; then T B outer products (for a cell with a `prepare`, T B of its adjoints), with the
    memory of `together` B gradients: 7 to 10 times as long as `gradient_norms` (two tanh layers, H=128, B=32, T=200,
    CPU), where `product_contributions` takes 1.7. Where W, U and b are a cell's parameters and enter by their sum,
    `product_contributions` gives the same without a gradient being made.

    The norm of a sum is at most the sum of norms: parts may cancel. Raises ValueError as `log_gradient_norms` does, and
    for together < 1.
    """
    if together < 1:
        raise ValueError(f"contributions: expected together >= 1, got {together}")
    stack, stack_params = as_stack(cells, params)
    found = record(stack, stack_params, xs, **how)
    pulled = pull_back(found, output_gradient(loss, found))
    size, lead = min(together, xs.shape[0]), found.lead - 1

    def norms(one: Pass, inputs: PyTree) -> PyTree:
        gradient, exponent = _step_gradient(one, lead, inputs)
        return jax.tree.map(lambda g: log_norm(g, lead) + ln2(exponent, log_norm(g, lead)), gradient)

    return _joint([lax.map(partial(norms, one), inputs, batch_size=size) for one, inputs in _each_pass(found, pulled)])


def step_gradients(
    cells: Cell | Directions | Sequence[Cell | Directions],
    params: PyTree,
    xs: Shaped[Array | np.ndarray, "T ..."],
    loss: Callable[[Array], Array],
    **how: PyTree,
) -> tuple[PyTree, ...]:
    """The g_t of `contributions` themselves: one NamedTuple of parameters a layer and direction, leaves [T, *B, ...].

    Floats: what is below 1e-38 (float32) is 0. Memory of T B gradients: for small networks.
    """
    stack, stack_params = as_stack(cells, params)
    found = record(stack, stack_params, xs, **how)
    pulled = pull_back(found, output_gradient(loss, found))
    lead = found.lead - 1
    every = [lax.map(partial(_step_gradient, one, lead), inputs) for one, inputs in _each_pass(found, pulled)]
    return tuple(shifted(vector, exponent) for vector, exponent in every)


def product_contributions(
    cells: Cell | Directions | Sequence[Cell | Directions],
    params: PyTree,
    xs: Shaped[Array | np.ndarray, "T ..."],
    loss: Callable[[Array], Array],
    **how: PyTree,
) -> Contributions:
    """`contributions` of cells in which x_t W + h_{t-1} U + b is all that the parameters W, U and b are for:

        W: ||dz_t|| ||x_t||,   U: ||dz_t|| ||h_{t-1}||,   b: ||dz_t||,   joint: ||dz_t|| ||[x_t h_{t-1} 1]||

    with dz_t = dL/d(x_t W), for the Frobenius norm of an outer product is the product of the norms (Goodfellow 2015,
    section 4, of a layer; here step by step). `elman`, `lstm` and `ugrnn` are such cells, for one; a GRU, whose reset
    stands between h U and the sum, is not.

    Cost: the log-domain adjoint and T B (D + H + G) multiplications; no gradient of a matrix is ever made. Whether a
    cell is one of these is found out by a step on random numbers; any other is refused with ValueError:
    `contributions` is for these. Other errors as there.
    """
    stack, stack_params = as_stack(cells, params)
    found = record(stack, stack_params, xs, **how)
    pulled = pull_back(found, output_gradient(loss, found))
    return _joint(
        [_product(one, inputs, own) for (one, inputs), own in zip(_each_pass(found, pulled), pulled, strict=True)]
    )


# Inside.


class _Inputs(NamedTuple):
    """What one step had and what came back to it, [T, *B, ...]; flags as `Pass` has them."""

    before: PyTree
    carry: PyTree
    x: Array
    flags: tuple
    delta: Scaled
    dy: Scaled


def _each_pass(found: Recorded, pulled: Sequence[Pulled]) -> list[tuple[Pass, _Inputs]]:
    """Every direction of every layer. A sequence that begins at the cell's own first carry restarts in its first step:
    what a learned one gets is counted there."""
    passes = [(one, layer.xs) for layer in found.layers for one in layer.passes]
    inputs = []
    for (one, xs), own in zip(passes, pulled, strict=True):
        keep, restart = one.flags
        if one.own_start:
            restart = jnp.zeros(found.ys.shape[: found.lead], bool) if restart is None else restart
            restart = restart.at[-1 if one.back else 0].set(True)
        inputs.append((one, _Inputs(one.before, one.carries, xs, (keep, restart), own.deltas, own.outputs)))
    return inputs


def _step_gradient(one: Pass, lead: int, inputs: _Inputs) -> Scaled:
    """Of each example [*B] of `lead` axes: dL/dparams through this step alone."""
    prepared = jax.vjp(one.cell.prepare, one.params)[1]

    def gradient(inputs: _Inputs) -> tuple[PyTree, Array]:
        delta, dy = inputs.delta, inputs.dy
        exponent = jnp.maximum(delta.exponent, dy.exponent)
        dparts = shifted(delta.vector, delta.exponent - exponent), shifted(dy.vector, dy.exponent - exponent)

        def parts(weights: PyTree) -> tuple[PyTree, Array]:
            z = one.cell.drive(weights, inputs.x), inputs.flags
            return one.step(weights, inputs.before, z), one.cell.read(weights, inputs.carry, inputs.x)

        return Scaled(prepared(jax.vjp(parts, one.weights)[1](dparts)[0])[0], exponent)

    for _ in range(lead):
        gradient = jax.vmap(gradient)
    return gradient(inputs)


def _product(one: Pass, inputs: _Inputs, own: Pulled) -> PyTree:
    """Log-norms like the parameters, leaves [T, *B]."""
    _check_sum(one, inputs.x.shape[-1])
    lead, before = own.drives.exponent.ndim, inputs.before
    if inputs.flags[1] is not None:
        before = hold(inputs.flags[1], one.cell.start(one.weights, own.drives.exponent.shape), before)
    dz = log_scaled((own.drives,)).joint[0]
    by = {"W": log_norm(inputs.x, lead), "U": log_norm(before.h, lead), "b": jnp.zeros_like(dz)}
    parts = {name: dz + by[name] for name, value in one.params._asdict().items() if value is not None}
    return jax.tree.map(lambda _: None, one.params)._replace(**parts)


def _check_sum(one: Pass, dim: int) -> None:
    """Refuses a cell that makes more of its parameters than x W + h U + b, found out by a step on random numbers."""
    names = {name for name, value in one.params._asdict().items() if value is not None}
    with jax.ensure_compile_time_eval():
        if names == {"W", "U", "b"} and hasattr(one.before, "h") and _is_sum(one.cell, one.params, dim):
            return
    raise ValueError(
        "product_contributions: expected a cell whose parameters are W, U and b and enter by x W + h U + b alone, "
        f"got {one.cell.name}; `contributions` takes any"
    )


def _is_sum(cell: Cell, like: PyTree, dim: int) -> bool:
    """Whether the gradients of W, U and b are the outer products of x, h and 1 with that of x W."""

    rng = np.random.default_rng(0)  # a program that draws would compile longer than this one

    def drawn(like: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), np.float32), like)

    params = jax.tree.map(lambda p: p / np.float32(math.sqrt(p.shape[0])), drawn(like))  # no unit is saturated
    carry = drawn(jax.eval_shape(lambda params: cell.start(cell.prepare(params), (3,)), params))
    x = drawn(jax.ShapeDtypeStruct((3, dim), np.float32))

    def parts(params: PyTree, carry: PyTree, z: PyTree) -> tuple[PyTree, Array]:
        weights = cell.prepare(params)
        z = jax.tree.map(lambda own, given: own + (given - lax.stop_gradient(own)), cell.drive(weights, x), z)
        return cell.step(weights, carry, z), cell.read(weights, carry, x)

    def compared(params: PyTree, carry: PyTree, push: PyTree) -> list[tuple[Array, Array]]:
        z = cell.drive(cell.prepare(params), x)
        dparams, dz = jax.vjp(lambda params, z: parts(params, carry, z), params, z)[1](push)
        return [(dparams.W, x.T @ dz), (dparams.U, carry.h.T @ dz), (dparams.b, dz.sum(0))]

    z = jax.eval_shape(lambda params: cell.drive(cell.prepare(params), x), params)
    push = drawn(jax.eval_shape(parts, params, carry, z))
    pairs = [tuple(map(np.asarray, pair)) for pair in jax.jit(compared)(params, carry, push)]
    return all(a.shape == b.shape and np.abs(a - b).max() < 1e-3 * np.abs(b).max() for a, b in pairs)


def _joint(logs: Sequence[PyTree]) -> Contributions:
    joint = [jax.nn.logsumexp(2 * jnp.stack(jax.tree.leaves(one)), axis=0) / 2 for one in logs]
    return Contributions(jnp.stack(joint), tuple(logs))
