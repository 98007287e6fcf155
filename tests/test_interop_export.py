"""Stacks as programs for any batch and time (`jax.export`), and one step at a time."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import export

from rnnlab.cells import CELLS, gru, lstm
from rnnlab.engines import ENGINES
from rnnlab.engines.scan import WIDE
from rnnlab.layers import init_layers, layers
from rnnlab.types import Directions

pytestmark = pytest.mark.slow  # programs are lowered, stored and compiled anew

D, H = 2, 4
STACK = lstm(H), Directions(gru(H), gru(H))
ANY_SIZE = ("scan", "fused")  # the others' products are cut by a length that is known
SIZES = [(1, 1), (5, 2), (3, WIDE), (1100, 1)]
close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)


@pytest.fixture
def unchecked():
    """Types are not checked: a symbol stands for a number, and beartype knows it for none."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def trained():
    """Parameters after ten steps downhill, to predict the next input."""
    params = init_layers(STACK, jax.random.key(0), D, np.float64)
    xs = np.random.default_rng(0).normal(size=(6, 3, D))
    loss = lambda params: jnp.mean((layers(STACK, params, xs[:-1]).ys[..., :D] - xs[1:]) ** 2)  # noqa: E731
    slope = jax.jit(jax.value_and_grad(loss))
    first = slope(params)[0]
    for _ in range(10):
        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, slope(params)[1])
    assert slope(params)[0] < 0.95 * first
    return params


def exported(params, engine, *, with_lengths: bool, vjp_order: int = 0):
    """(leaves of the parameters, xs, lengths if asked for) -> (ys, leaves of last), through bytes and back."""
    leaves, structure = jax.tree.flatten(params)  # bytes know no NamedTuple of ours

    def run(leaves, xs, lengths=None):
        out = layers(STACK, jax.tree.unflatten(structure, leaves), xs, lengths=lengths, engine=engine)
        return out.ys, jax.tree.leaves(out.last)

    T, B = export.symbolic_shape("T, B")
    shapes = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in leaves], jax.ShapeDtypeStruct((T, B, D), float)
    shapes += (jax.ShapeDtypeStruct((B,), np.int32),) if with_lengths else ()
    program = export.deserialize(export.export(jax.jit(run))(*shapes).serialize(vjp_order=vjp_order))
    return partial(program.call, leaves)


@pytest.mark.parametrize("with_lengths", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("engine", ANY_SIZE)
def test_a_trained_stack_is_a_program_for_any_batch_and_time(unchecked, trained, engine, with_lengths):
    program = exported(trained, ENGINES[engine], with_lengths=with_lengths)
    for length, batch in SIZES:
        xs = np.random.default_rng(length).normal(size=(length, batch, D))
        given = (np.arange(batch, dtype=np.int32) % (length + 1),) if with_lengths else ()
        ys, last = program(xs, *given)
        expected = layers(STACK, trained, xs, lengths=given[0] if given else None, engine=ENGINES[engine])
        close(ys, expected.ys, err_msg=f"{length} {batch}")
        for one, other in zip(last, jax.tree.leaves(expected.last), strict=True):
            close(one, other)


@pytest.mark.parametrize("with_lengths", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("engine", ANY_SIZE)
def test_a_program_for_any_size_has_its_gradient_too(unchecked, trained, engine, with_lengths):
    program = exported(trained, ENGINES[engine], with_lengths=with_lengths, vjp_order=1)
    xs = np.random.default_rng(1).normal(size=(5, 2, D))
    given = (np.array([5, 2], np.int32),) if with_lengths else ()
    got = jax.grad(lambda leaves: program.func(leaves, xs, *given)[0].sum())(jax.tree.leaves(trained))
    expected = jax.grad(lambda p: layers(STACK, p, xs, lengths=given[0] if given else None).ys.sum())(trained)
    for one, other in zip(got, jax.tree.leaves(expected), strict=True):
        close(one, other)


@pytest.mark.parametrize("name", CELLS)
def test_one_step_at_a_time_equals_all_at_once(name):
    """Two layers and the carries of both, handed in and out, as a stream is run."""
    stack = CELLS[name](H), CELLS[name](H)
    params = init_layers(stack, jax.random.key(0), D, np.float64)
    params = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(jax.random.key(a.size), a.shape, a.dtype), params)
    xs = np.random.default_rng(0).normal(size=(5, 2, D))
    run = jax.jit(partial(layers, stack))
    expected = run(params, xs)
    carry = tuple(cell.start(cell.prepare(p), (2,)) for cell, p in zip(stack, params, strict=True))
    for t in range(5):
        out = run(params, xs[t : t + 1], start=carry)
        carry = out.last
        close(out.ys[0], expected.ys[t], err_msg=f"step {t}")
    jax.tree.map(close, carry, expected.last)
