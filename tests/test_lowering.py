"""Every cell, engine and transformation lowers for CPU, GPU and TPU, on whatever machine this is."""

import jax
import jax.numpy as jnp
import pytest

from rnnlab.cells import CELLS
from rnnlab.engines import ENGINES, fused
from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.types import Directions

PLATFORMS = ("cpu", "cuda", "tpu")
T, B, D, H = 5, 2, 3, 4


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CELLS)
def test_lowers_for_every_platform(name, engine):
    """Two directions, lengths, taps, chunks; outputs, and gradients of everything."""
    cell = CELLS[name](H)
    if ENGINES[engine] is fused and cell.local is None:
        with pytest.raises(TypeError, match="local derivatives"):
            lowered((cell,), ENGINES[engine])
        return
    exported = lowered((Directions(cell, cell),), ENGINES[engine])
    assert exported.platforms == PLATFORMS
    assert "stablehlo" in exported.mlir_module()


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
