"""Every cell, engine and transformation lowers for CPU, GPU and TPU, on whatever machine this is."""

import jax
import jax.numpy as jnp
import pytest

from rnnlab.cells import CELLS
from rnnlab.engines import ENGINES
from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.types import Directions

pytestmark = pytest.mark.slow

PLATFORMS = ("cpu", "cuda", "tpu")
T, B, D, H = 5, 2, 3, 4


def engines(cell):
    """All that take the cell; Newton's for a few alone, for it knows nothing of a cell but its step."""
    own = {"scan": True, "fused": cell.local is not None, "associative": cell.affine is not None}
    return [name for name, takes in own.items() if takes]


CASES = [(name, engine) for name, build in CELLS.items() for engine in engines(build(H))]
CASES += [(name, engine) for name in ("lstm", "para_lstm", "mlstm") for engine in ("newton", "quasi_newton")]
SLOW = {"newton", "quasi_newton"}


@pytest.mark.parametrize(
    ("name", "engine"), [pytest.param(*c, marks=[pytest.mark.slow] if c[1] in SLOW else []) for c in CASES]
)
def test_lowers_for_every_platform(name, engine):
    """Two directions, lengths, taps, chunks; outputs, and gradients of everything."""
    cell = CELLS[name](H)
    exported = lowered((Directions(cell, cell),), ENGINES[engine])
    assert exported.platforms == PLATFORMS
    assert "stablehlo" in exported.mlir_module()


def test_every_engine_is_lowered():
    assert {engine for _, engine in CASES} == set(ENGINES)


def test_a_deep_stack_lowers_for_every_platform():
    assert lowered((CELLS["lstm"](D),) * 9, None).platforms == PLATFORMS


def lowered(stack, engine):
    params = init_layers(stack, jax.random.key(0), D)
    taps = zero_taps(stack, params, T, (B,))

    def everything(params, xs, lengths, taps):
        def total(params, xs, taps):
            out = layers(stack, params, xs, lengths=lengths, taps=taps, engine=engine, chunk=3)
            return (out.ys**2).sum(), out.ys

        return jax.value_and_grad(total, (0, 1, 2), has_aux=True)(params, xs, taps)

    arguments = params, jnp.ones((T, B, D), jnp.float32), jnp.full(B, T), taps
    return jax.export.export(jax.jit(everything), platforms=PLATFORMS)(*arguments)
