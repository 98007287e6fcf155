"""A gate between what a layer reads and what its cell gives, against the equation and autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import gru, gru_before, lstm, scrn
from rnnlab.engines import fused, scan
from rnnlab.layers import highway, init_layers, layers
from rnnlab.probes import gradient_norms
from rnnlab.unroll import unroll

T, B, D = 5, 3, 4
close = dict(rtol=1e-12, atol=1e-12)


def setting(cell, **how):
    cell = highway(cell, **how)
    params = cell.init(jax.random.key(0), D, jnp.float64)
    return cell, params, jax.random.normal(jax.random.key(1), (T, B, D), jnp.float64)


@pytest.mark.parametrize("inner", [lstm(D), gru_before(D)], ids=["lstm", "gru_before"])
def test_outputs_are_the_mixture_of_the_equation(inner):
    cell, params, xs = setting(inner, transform_bias=0.3)
    out, own = unroll(cell, params, xs, lengths=[5, 0, 2]), unroll(inner, params.cell, xs, lengths=[5, 0, 2])
    t = 1 / (1 + np.exp(-(np.asarray(xs) @ np.asarray(params.W) + np.asarray(params.b))))
    expected = t * np.asarray(own.ys) + (1 - t) * np.asarray(xs)
    expected[np.arange(T)[:, None] >= np.array([5, 0, 2])] = 0
    np.testing.assert_allclose(out.ys, expected, **close)
    jax.tree.map(np.testing.assert_array_equal, (out.carries, out.last), (own.carries, own.last))
    np.testing.assert_array_equal(params.b, 0.3)


def test_gradients_are_those_of_the_plain_scan():
    cell, params, xs = setting(gru(D))
    loss = lambda engine: lambda params, xs: (unroll(cell, params, xs, engine=engine).ys ** 2).sum()  # noqa: E731
    got, expected = (jax.grad(loss(engine), (0, 1))(params, xs) for engine in (fused, scan))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), got, expected)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(got))


def test_a_closed_gate_passes_inputs_on_and_a_deep_stack_keeps_its_gradient():
    stack = (highway(lstm(D), transform_bias=-50),) * 10
    params = init_layers(stack, jax.random.key(0), D, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (T, B, D), jnp.float64)
    np.testing.assert_allclose(layers(stack, params, xs).ys, xs, rtol=1e-12)
    assert gradient_norms(stack, params, xs, loss=lambda ys: ys[-1].sum(-1)).joint.shape == (10, T, B)


def test_another_width_is_refused():
    with pytest.raises(ValueError, match="highway: expected inputs and outputs of one width, got 4 and 5"):
        highway(scrn(D)).init(jax.random.key(0), D)
