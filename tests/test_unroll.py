"""Stacks, joins and refusals. What single cells do over time is in test_conformance.py."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import elman, gru, lstm
from rnnlab.layers import init_layers, layers, plain, residual, zero_taps
from rnnlab.types import Directions
from rnnlab.unroll import bidirectional, unroll

T, B, D = 6, 3, 4
LENGTHS = np.array([6, 0, 4])
STACK = (gru(5), Directions(lstm(3), elman(3)), lstm(5))  # widths 5, 3 + 3 and 5
close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def stack():
    """Parameters, inputs, first carries and taps of STACK, none of them zero."""
    rng = np.random.default_rng(17)
    params = init_layers(STACK, jax.random.key(2), D, jnp.float64)
    taps = zero_taps(STACK, params, T, (B,))
    start = jax.tree.map(lambda tap: jnp.asarray(rng.normal(size=tap.shape[1:])), taps)
    taps = jax.tree.map(lambda tap: jnp.asarray(0.1 * rng.normal(size=tap.shape)), taps)
    return params, jnp.asarray(rng.normal(size=(T, B, D))), start, taps


def composed(params, xs, start, taps, **how):
    """STACK written out."""
    first = unroll(STACK[0], params[0], xs, start=start[0], taps=taps[0], **how)
    second = [
        unroll(STACK[1][d], params[1][d], first.ys, start=start[1][d], taps=taps[1][d], reverse=d == 1, **how)
        for d in (0, 1)
    ]
    joined = jnp.concatenate([second[0].ys, second[1].ys], axis=-1)
    third = unroll(STACK[2], params[2], joined, start=start[2], taps=taps[2], **how)
    both = lambda field: Directions(*(getattr(one, field) for one in second))  # noqa: E731
    fields = ((getattr(first, f), both(f), getattr(third, f)) for f in ("carries", "last"))
    return third.ys, *fields


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "masked"])
def test_layers_are_their_composition(stack, lengths, chunk):
    """Outputs, carries and every gradient; the compositions' own parts are tested cell by cell."""
    params, xs, start, taps = stack
    weights = np.random.default_rng(3).normal(size=(T, B, 5))

    def of_layers(*inputs):
        params, xs, start, taps = inputs
        return layers(STACK, params, xs, start=start, taps=taps, lengths=lengths, chunk=chunk)[:3]

    def loss(run, *inputs):
        out = run(*inputs)
        return (weights * out[0]).sum() + sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(out[1:])), out

    @partial(jax.jit, static_argnums=0)
    def graded(run, *inputs):
        return jax.value_and_grad(partial(loss, run), argnums=(0, 1, 2, 3), has_aux=True)(*inputs)

    got = graded(of_layers, params, xs, start, taps)
    expected = graded(partial(composed, lengths=lengths), params, xs, start, taps)
    jax.tree.map(close, got, expected)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(got))


def test_widths_of_a_stack(stack):
    params, xs, *_ = stack
    out = layers(STACK, params, xs)
    assert (params[1].forward.W.shape[0], params[2].W.shape[0], out.ys.shape[-1]) == (5, 6, 5)
    assert [len(out.carries), len(out.last), len(out.info)] == [3, 3, 3]


def test_layers_reversed_are_layers_of_reversed_inputs(stack):
    params, xs, *_ = stack
    cells, params = (STACK[0], lstm(6)), (params[0], lstm(6).init(jax.random.key(1), 5, jnp.float64))
    got, flipped = layers(cells, params, xs, reverse=True), layers(cells, params, xs[::-1])
    close(got.ys, flipped.ys[::-1])
    jax.tree.map(close, got.last, flipped.last)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_keep_leaves_out_any_steps(stack, reverse):
    """Padding on the left and holes in the middle too: what is kept is the shorter sequence's."""
    params, xs, start, _ = stack
    keep = np.array([[0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], bool)
    padded = jnp.where(keep[..., None], xs, jnp.nan)
    run = partial(unroll, STACK[0], params[0], reverse=reverse)
    out = run(padded, start=start[0], keep=keep)
    assert not np.asarray(out.ys)[~keep].any()
    for row in range(B):
        alone = run(xs[keep[:, row], row], start=jax.tree.map(lambda leaf, row=row: leaf[row], start[0]))
        close(np.asarray(out.ys)[keep[:, row], row], alone.ys)
        close(out.last.h[row], alone.last.h)


def test_a_residual_join_adds_each_layers_inputs():
    rng = np.random.default_rng(5)
    cells = (elman(D), gru(D), Directions(elman(2), gru(2)))
    params = init_layers(cells, jax.random.key(4), D, jnp.float64)
    xs = rng.normal(size=(T, B, D))
    padded = xs.copy()
    padded[np.arange(T)[:, None] >= LENGTHS] = np.nan
    below = np.where((np.arange(T)[:, None] < LENGTHS)[..., None], xs, 0)
    for cell, p in zip(cells, params, strict=True):
        run = bidirectional if isinstance(cell, Directions) else unroll
        below = below + run(cell, p, below, lengths=LENGTHS).ys
    close(layers(cells, params, padded, lengths=LENGTHS, join=residual).ys, below)


def test_a_residual_join_wants_one_width():
    cells, xs = (elman(5), elman(5)), np.random.default_rng(5).normal(size=(T, B, D))
    params = init_layers(cells, jax.random.key(0), D, jnp.float64)
    with pytest.raises(ValueError, match=r"one shape, got \(6, 3, 4\) and \(6, 3, 5\).*join=\(plain, residual"):
        layers(cells, params, xs, join=residual)
    first = unroll(cells[0], params[0], xs).ys
    close(layers(cells, params, xs, join=(plain, residual)).ys, first + unroll(cells[1], params[1], first).ys)


CELL = lstm(5)
PARAMS = CELL.init(jax.random.key(0), D, jnp.float64)
KEEP = np.arange(T)[:, None] < LENGTHS
TAPS = zero_taps(CELL, PARAMS, T, (B,))
START = CELL.start(PARAMS, (B,))
# What is given -> the type of the error, and words of its message: what was expected, what was given.
REFUSED = {
    "lengths for other rows": ({"lengths": LENGTHS[:2]}, ValueError, ["lengths", "(3,)", "(2,)"]),
    "lengths that are floats": ({"lengths": LENGTHS * 1.0}, ValueError, ["lengths", "integer", "float64"]),
    "lengths beyond T": ({"lengths": LENGTHS + 1}, ValueError, ["lengths", "0..6", "1..7"]),
    "negative lengths": ({"lengths": LENGTHS - 1}, ValueError, ["lengths", "0..6", "-1..5"]),
    "keep of another shape": ({"keep": KEEP[1:]}, ValueError, ["keep", "(6, 3)", "(5, 3)"]),
    "keep of another type": ({"keep": KEEP * 1.0}, ValueError, ["keep", "bool", "float64"]),
    "keep and lengths": ({"keep": KEEP, "lengths": LENGTHS}, ValueError, ["keep or lengths", "both"]),
    "taps too short": ({"taps": jax.tree.map(lambda a: a[1:], TAPS)}, ValueError, ["taps.h", "(6, 3, 5)", "(5, 3, 5)"]),
    "taps of a part": ({"taps": TAPS.h}, ValueError, ["taps", "structure", "LSTMCarry", "*"]),
    "start of a part": ({"start": START.c}, ValueError, ["start", "structure", "LSTMCarry", "*"]),
    "start of another width": (
        {"start": START._replace(c=START.c[:, 1:])}, ValueError, ["start.c", "(3, 5)", "(3, 4)"],
    ),
    "start in float32": (
        {"start": START._replace(c=START.c.astype(np.float32))}, ValueError, ["start.c", "float64", "float32"],
    ),
    "inputs in float32": ({"xs": np.full((T, B, D), 0.3, np.float32)}, TypeError, ["xs", "float64", "float32"]),
    "no steps": ({"xs": np.zeros((0, B, D))}, ValueError, ["xs", "at least one step", "(0, 3, 4)"]),
    "inputs without features": ({"xs": np.arange(6.0)}, ValueError, ["xs", "1 input axes", "(6,)"]),
    "chunks of nothing": ({"chunk": 0}, ValueError, ["chunk >= 1", "got 0"]),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused(what):
    given, error, words = REFUSED[what]
    given = {"xs": np.random.default_rng(0).normal(size=(T, B, D))} | given
    # Shape annotations are checked in tests only, and would answer first; users meet the library's own message.
    run = unroll.__wrapped__ if hasattr(unroll, "__wrapped__") else unroll
    with pytest.raises(error, match=".*".join(map(re.escape, words))):
        run(CELL, PARAMS, given.pop("xs"), **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"params": (PARAMS,)}, ["params for 2 layers", "got 1"]),
        ({"start": (None,)}, ["start for 2 layers", "got 1"]),
        ({"taps": (None,) * 3}, ["taps for 2 layers", "got 3"]),
        ({"join": (plain,)}, ["join for 2 layers", "got 1"]),
    ],
    ids=["params", "start", "taps", "join"],
)
def test_a_stack_wants_one_of_each_a_layer(given, words):
    cells = (CELL, lstm(5))
    given = {"params": init_layers(cells, jax.random.key(0), D, jnp.float64)} | given
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        layers(cells, given.pop("params"), np.random.default_rng(0).normal(size=(T, B, D)), **given)


def test_a_bidirectional_layer_is_not_reversed():
    cells = (Directions(CELL, CELL),)
    with pytest.raises(ValueError, match=r"reverse=True.*bidirectional"):
        params = init_layers(cells, jax.random.key(0), D, jnp.float64)
        layers(cells, params, np.random.default_rng(0).normal(size=(T, B, D)), reverse=True)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64])
def test_small_integers_count_to_long_sequences(kind):
    xs = jnp.asarray(np.random.default_rng(3).normal(size=(300, 2, D)))
    cell = elman(3)
    params = cell.init(jax.random.key(0), D, jnp.float64)
    out = unroll(cell, params, xs, lengths=np.array([100, 20], kind))
    assert np.count_nonzero(np.any(np.asarray(out.ys) != 0, axis=-1), axis=0).tolist() == [100, 20]


def test_lengths_may_be_a_list(stack):
    params, xs, *_ = stack
    given, listed = (layers(STACK, params, xs, lengths=lengths).ys for lengths in (LENGTHS, LENGTHS.tolist()))
    np.testing.assert_array_equal(given, listed)


@pytest.mark.parametrize("cells", [Directions(gru(5), gru(5)), ()], ids=["directions", "empty"])
def test_what_is_no_stack_is_refused(cells):
    with pytest.raises(TypeError, match="expected a sequence of cells"):
        init_layers(cells, jax.random.key(0), D)
    with pytest.raises(TypeError, match="expected a sequence of cells"):
        layers(cells, (), jnp.ones((T, B, D)))
