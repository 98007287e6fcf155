"""Deep stacks: layers alike are one scan, and give what they give one by one, taps and all."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab.layers
from rnnlab.cells import elman, gru, gru_before, lstm
from rnnlab.layers import init_layers, layers, residual, zero_taps
from rnnlab.types import Directions

T, B, H = 5, 3, 4
LENGTHS = np.array([5, 0, 3])
close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)

STACKS = {
    "gru": tuple(gru(H) for _ in range(9)),
    "gru_before": (gru_before(H),) * 9,
    "a narrower one below": (lstm(3), *(lstm(H) for _ in range(9))),
    "both directions": (Directions(elman(2), elman(2)),) * 8,
    "two runs": (gru(H),) * 8 + (lstm(H),) * 8,
}


def case(stack):
    """Parameters, inputs, first carries and taps, none of them zero."""
    rng = np.random.default_rng(3)
    params = init_layers(stack, jax.random.key(2), H, jnp.float64)
    taps = zero_taps(stack, params, T, (B,))
    start = jax.tree.map(lambda tap: jnp.asarray(rng.normal(size=tap.shape[1:])), taps)
    taps = jax.tree.map(lambda tap: jnp.asarray(0.1 * rng.normal(size=tap.shape)), taps)
    return params, jnp.asarray(rng.normal(size=(T, B, H))), start, taps


def graded(stack, **how):
    """Everything that comes out of a stack, and the gradients of a random linear function of all of it."""

    def loss(params, xs, start, taps):
        out = layers(stack, params, xs, start=start, taps=taps, lengths=LENGTHS, **how)
        leaves = jax.tree.leaves((out.ys, out.carries, out.last))
        weights = np.random.default_rng(5)
        return sum((weights.normal(size=leaf.shape) * leaf).sum() for leaf in leaves), out

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))


@pytest.mark.parametrize("name", STACKS)
def test_scanned_layers_are_layers_one_by_one(name, monkeypatch):
    stack = STACKS[name]
    how = {"gru": {"join": residual}, "gru_before": {"reverse": True}, "two runs": {"chunk": 2}}.get(name, {})
    given = case(stack)
    scanned = graded(stack, **how)
    assert scans_over(8, scanned, given) or scans_over(9, scanned, given)
    got = scanned(*given)
    monkeypatch.setattr(rnnlab.layers, "SCANNED", 99)
    expected = graded(stack, **how)
    assert not scans_over(8, expected, given) and not scans_over(9, expected, given)
    jax.tree.map(close, got, expected(*given))


def scans_over(length, function, given):
    return f" length={length}\n" in str(jax.make_jaxpr(function)(*given))


def test_a_program_has_no_more_loops_the_deeper_its_stack():
    def loops(depth):
        stack = (lstm(H),) * depth
        return graded(stack).lower(*case(stack)).as_text().count("stablehlo.while")

    assert loops(24) == loops(8) < 2 * loops(2)


def test_cells_of_the_same_arguments_are_one_cell():
    assert lstm(H) == lstm(H) and gru_before(H) == gru_before(H)
    assert lstm(H) != lstm(H, forget_bias=2.0) and gru(H) != gru_before(H) and elman(H) != elman(H + 1)
