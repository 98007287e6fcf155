"""What the factories can do beside their defaults, each against its equation in NumPy."""

from functools import partial

import equations_classic as classic
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from equation import Equation, sigmoid

from rnnlab import cells
from rnnlab import initializers as inits
from rnnlab.unroll import unroll

T, B, D, H = 5, 3, 2, 4
ROWS, COLUMNS = 3, 2


def conv_peephole_step(p, carry, x):
    a = classic.convolution(x, p.W) + classic.convolution(carry.h, p.U) + p.b
    i, f, g, o = np.split(a, 4, axis=-1)
    pi, pf, po = np.split(p.p, 3, axis=-1)
    c = sigmoid(f + pf * carry.c) * carry.c + sigmoid(i + pi * carry.c) * np.tanh(g)
    return carry._replace(h=sigmoid(o + po * c) * np.tanh(c), c=c)


def jordan_step(p, carry, x):
    hidden = np.maximum(x @ p.W + carry.y @ p.U + p.b, 0)
    return carry._replace(y=hidden @ p.V + p.c)


def scrn_step(p, carry, x):
    s = 0.5 * (x @ p.V) + 0.5 * carry.s
    return carry._replace(h=sigmoid(s @ p.P + x @ p.W + carry.h @ p.U + p.b), s=s)


RHN = reference.EQUATIONS["rhn"]
image = partial(cells.conv_lstm, rows=ROWS, columns=COLUMNS)
linear_out = partial(cells.jordan, activation=jax.nn.relu, output_activation=lambda a: a)
OPTIONS = {
    "conv_lstm with peepholes": (image(H, peephole=inits.normal()), conv_peephole_step, lambda p, c, x: c.h),
    "conv_lstm of one pixel": (image(H, window=1), classic.conv_lstm_step, lambda p, c, x: c.h),
    "conv_lstm, window 5": (image(H, window=5), classic.conv_lstm_step, lambda p, c, x: c.h),
    "jordan of 3 outputs": (linear_out(H, outputs=3), jordan_step, lambda p, c, x: c.y),
    "rhn, depth 1": (cells.rhn(H, depth=1), RHN.step, RHN.read),
    "rhn, depth 4": (cells.rhn(H, depth=4), RHN.step, RHN.read),
    "scrn of 3 slow units": (
        cells.scrn(H, context=3, decay=0.5), scrn_step, lambda p, c, x: np.concatenate([c.h, c.s]),
    ),
    "projection to 1": (cells.lstm(H, projection=1), classic.projected_step, lambda p, c, x: c.h),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_its_equation(name):
    cell, step, read = OPTIONS[name]
    pixels = (ROWS, COLUMNS) if cell.input_rank == 3 else ()
    params = cell.init(jax.random.key(0), D, jnp.float64)
    params = jax.tree.map(lambda p: np.asarray(p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape)), params)
    xs = np.random.default_rng(0).normal(size=(T, B, *pixels, D))
    start = jax.tree.map(np.asarray, cell.start(params, (B,)))
    taps = jax.tree.map(lambda leaf: np.zeros((T, *leaf.shape)), start)
    lengths = np.array([T, 0, 3])
    equation = Equation(step, lambda D, H: 0, read)
    expected = reference.loop(equation, params, xs, start, taps=taps, lengths=lengths)
    got = unroll(cell, jax.tree.map(jnp.asarray, params), xs, lengths=lengths)
    for one, other in zip(jax.tree.leaves(tuple(got[:3])), jax.tree.leaves(tuple(expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_a_depth_of_nothing_is_refused():
    with pytest.raises(ValueError, match="rhn: expected depth >= 1, got 0"):
        cells.rhn(H, depth=0)
