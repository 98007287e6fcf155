"""What every cell in CELLS and IMAGE_CELLS promises, against NumPy loops, autodiff by hand and finite differences.

A new cell needs an equation in a tests/equations_*.py and nothing here. One function a cell is compiled, with all the
variants of a group in it, and nearly all of the time goes into that: the second group is for `make test-slow`.
"""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.flatten_util import ravel_pytree

from rnnlab.cells import CELLS, IMAGE_CELLS
from rnnlab.engines import default, fused, scan
from rnnlab.layers import zero_taps
from rnnlab.probes import step_jacobians
from rnnlab.types import PyTree
from rnnlab.unroll import unroll

T, B, D, H = 6, 4, 3, 5
ROWS, COLUMNS = 2, 3
FACTORIES = CELLS | {name: partial(cell, rows=ROWS, columns=COLUMNS) for name, cell in IMAGE_CELLS.items()}
LENGTHS = {"full": np.full(B, T), "masked": np.array([T, 0, 3, 5], np.int64)}
CHUNK = {"full": 3, "masked": 4}  # two whole chunks; one and a shorter piece
WAYS = {"scan": scan, "chunk": scan, "fused": fused, "fused_chunk": fused}
VARIANTS = [(way, mask, reverse) for way in WAYS for mask in ("full", "masked") for reverse in (False, True)]
QUICK = [variant for variant in VARIANTS if variant[1:] in (("full", False), ("masked", True))]


def label(variant):
    way, mask, reverse = variant
    return f"{way}-{mask}-{'reverse' if reverse else 'forward'}"


def each(variants):
    """A test of every one, in the slow suite of those that are not quick."""
    marked = [pytest.param(v, id=label(v), marks=() if v in QUICK else pytest.mark.slow) for v in variants]
    return pytest.mark.parametrize("variant", marked)


pytestmark = pytest.mark.parametrize("name", FACTORIES)
each_variant = each(VARIANTS)
each_pass = each(VARIANTS[:4])  # of the reference engine
each_direction = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
FORWARD = ("scan", "masked", False)
STEP = 1e-5  # of central differences
close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)


class Point(NamedTuple):
    """What a loss is differentiated by."""

    params: PyTree
    xs: PyTree
    start: PyTree
    taps: PyTree


class LossWeights(NamedTuple):
    """The loss is a random linear function of everything that comes out: outputs, carries, last carries."""

    ys: PyTree
    carries: PyTree
    last: PyTree


@cache
def case(name):
    """cell, point and loss weights, all random and none zero: parameters are moved off their initial values."""
    if name not in reference.EQUATIONS:
        pytest.fail(
            f"the cell {name!r} has no NumPy equation: add one to the EQUATIONS of its family (tests/equations_*.py)"
        )
    cell = FACTORIES[name](H)
    key = jax.random.key(sum(map(ord, name)))
    params = cell.init(jax.random.fold_in(key, 0), D, jnp.float64)
    noise = iter(np.random.default_rng(sum(map(ord, name))).normal(size=(10_000,)))
    draw = lambda leaf: np.fromiter(noise, float, leaf.size).reshape(leaf.shape)  # noqa: E731
    params = jax.tree.map(lambda p: np.asarray(p) + 0.3 * draw(p), params)
    xs = draw(np.empty((T, B, *((ROWS, COLUMNS) if name in IMAGE_CELLS else ()), D)))
    start, taps = cell.start(cell.prepare(params), (B,)), zero_taps(cell, params, T, (B,))
    point = Point(params, xs, jax.tree.map(draw, start), jax.tree.map(lambda tap: 0.1 * draw(tap), taps))
    out = jax.eval_shape(partial(unroll, cell), params, xs)
    return cell, point, jax.tree.map(draw, LossWeights(out.ys, out.carries, out.last))


def over(flags, leaf):
    """Flags [*B] (or [T, *B]) in the shape of a leaf with event axes behind."""
    return flags.reshape(flags.shape + (1,) * (leaf.ndim - flags.ndim))


def loss_of(weights, out):
    return sum(jax.tree.leaves(jax.tree.map(lambda w, o: (w * o).sum(), weights, LossWeights(*out[:3]))))


def run(cell, variant, point, lengths):
    way, mask, reverse = variant
    how = {"engine": WAYS[way]} | ({"chunk": CHUNK[mask]} if "chunk" in way else {})
    how |= {"lengths": lengths} if mask == "masked" else {}
    return unroll(cell, point.params, point.xs, start=point.start, taps=point.taps, reverse=reverse, **how)


def by_hand(cell, lengths, order, point):
    """The same as an explicit Python loop over the cell's steps, at the times in `order`, the rows side by side."""
    weights = cell.prepare(point.params)
    zs, carry, done = cell.drive(weights, point.xs), point.start, []
    at = lambda t, tree: jax.tree.map(lambda a: a[t], tree)  # noqa: E731
    for t in order:
        keep = t < lengths
        new = jax.tree.map(jnp.add, cell.step(weights, carry, at(t, zs)), at(t, point.taps))
        carry = jax.tree.map(lambda n, c, keep=keep: jnp.where(over(keep, n), n, c), new, carry)
        y = cell.read(weights, carry, at(t, point.xs))
        done.append((jnp.where(over(keep, y), y, jnp.zeros_like(y)), carry))
    ys, carries = jax.tree.map(lambda *steps: jnp.stack(steps)[jnp.argsort(order)], *done)
    return ys, carries, carry


@cache
def compiled(name, quick):
    """(point, loss weights) -> outputs and gradients of every variant, of the quick ones or the others, by its name."""
    cell = case(name)[0]

    def everything(point, weights, lengths):
        def graded(variant):
            def loss(point):
                out = run(cell, variant, point, lengths)
                return loss_of(weights, out), out[:3]

            return jax.value_and_grad(loss, has_aux=True)(point)

        return {label(variant): graded(variant) for variant in variants(name) if (variant in QUICK) == quick}

    return jax.jit(everything)


def variants(name):
    """Those that the cell takes part in: `fused` is for cells with local derivatives."""
    return [one for one in VARIANTS if WAYS[one[0]] is scan or case(name)[0].local is not None]


def refused(name, variant):
    """Whether the variant is not for this cell; then the engine must say so."""
    if variant in variants(name):
        return False
    with pytest.raises(TypeError, match=r"^fused: expected a cell with local derivatives, .*engine=scan"):
        run(case(name)[0], variant, case(name)[1], LENGTHS["masked"])
    return True


def results(name, point, weights=None, quick=True):
    weights = case(name)[2] if weights is None else weights
    return jax.tree.map(np.asarray, compiled(name, quick)(point, weights, LENGTHS["masked"]))


@cache
def at_case(name, quick):
    return results(name, case(name)[1], quick=quick)


def at(name, variant):
    """(loss, outputs), gradients of a variant."""
    return at_case(name, variant in QUICK)[label(variant)]


def default_way(name):
    """Reversed and masked, by the engine that `unroll` takes when none is named."""
    way = next(way for way, engine in WAYS.items() if engine is default(case(name)[0]))
    return (way, "masked", True)


def all_close(got, expected, **tolerance):
    jax.tree.map(lambda g, e: close(g, e, **tolerance), got, expected)


@each_variant
def test_outputs_are_those_of_the_numpy_loop(name, variant):
    if refused(name, variant):
        return
    _, point, _ = case(name)
    (_, (ys, carries, last)), _ = at(name, variant)
    lengths = LENGTHS[variant[1]]
    expected = reference.loop(
        reference.EQUATIONS[name], point.params, point.xs, point.start,
        taps=point.taps, lengths=lengths, reverse=variant[2],
    )  # fmt: skip
    all_close((ys, carries, last), tuple(expected))
    padding = np.arange(T)[:, None] >= lengths
    assert not ys[padding].any()
    for leaf, first in zip(last, point.start, strict=True):
        np.testing.assert_array_equal(leaf[lengths == 0], first[lengths == 0])


@each_variant
def test_gradients_are_those_of_a_python_loop(name, variant):
    if refused(name, variant):
        return
    _, mask, reverse = variant
    _, grads = at(name, variant)
    all_close(grads, looped_gradients(name, mask, reverse))


@cache
def compiled_by_hand(name):
    cell = case(name)[0]
    return jax.jit(jax.grad(lambda point, *how: loss_of(how[0], by_hand(cell, *how[1:], point))))


@cache
def looped_gradients(name, mask, reverse):
    """The order of the steps is data, so that one compiled loop serves both directions."""
    _, point, weights = case(name)
    order = np.arange(T)[::-1] if reverse else np.arange(T)
    return compiled_by_hand(name)(point, weights, LENGTHS[mask], order)


@cache
def direction(name):
    """A random direction in the space of everything that the loss is differentiated by."""
    rng = np.random.default_rng(len(name))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), case(name)[1])


def dot(left, right):
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), left, right)))


def moved(point, by, along):
    return jax.tree.map(lambda p, d: p + by * d, point, along)


@each_pass
def test_gradients_are_the_slopes_of_the_numpy_loop(name, variant):
    _, point, weights = case(name)
    _, grads = at(name, variant)

    def loss(point):
        how = {"taps": point.taps, "lengths": LENGTHS[variant[1]], "reverse": variant[2]}
        return loss_of(weights, reference.loop(reference.EQUATIONS[name], point.params, point.xs, point.start, **how))

    along = direction(name)
    slope = (loss(moved(point, STEP, along)) - loss(moved(point, -STEP, along))) / (2 * STEP)
    np.testing.assert_allclose(dot(grads, along), slope, rtol=1e-6)


def test_padding_may_hold_anything(name):
    _, point, _ = case(name)
    padding = np.arange(T)[:, None] >= LENGTHS["masked"]
    spoilt = point.xs.copy()
    spoilt[padding] = np.resize([np.nan, np.inf, -np.inf], spoilt[padding].shape)
    clean, got = at_case(name, True), results(name, point._replace(xs=spoilt))
    for variant in clean:
        if "masked" in variant:
            jax.tree.map(np.testing.assert_array_equal, got[variant], clean[variant])
            assert not got[variant][1].xs[padding].any()


@pytest.mark.slow
@each_direction
def test_a_row_of_a_ragged_batch_is_the_row_alone(name, reverse):
    """Its loss alone: the parameters' gradients are the row's too, and no other row has any."""
    _, point, weights = case(name)
    row, length = 2, 3
    assert LENGTHS["masked"][row] == length
    only = np.zeros((T, B))
    only[:length, row] = 1
    weights = LossWeights(
        weights.ys * over(only, weights.ys),
        jax.tree.map(lambda w: w * over(only, w), weights.carries),
        jax.tree.map(lambda w: w * over(only[0], w), weights.last),
    )
    variant = ("scan", "masked", reverse)
    (_, (ys, carries, last)), grads = results(name, point, weights, variant in QUICK)[label(variant)]
    got, got_grads = compiled_row(name, row, length)[reverse]
    part = lambda tree: jax.tree.map(lambda a: a[:length, row], tree)  # noqa: E731
    one = lambda tree: jax.tree.map(lambda a: a[row], tree)  # noqa: E731
    all_close((part(ys), part(carries), one(last)), got)
    all_close(Point(grads.params, part(grads.xs), one(grads.start), part(grads.taps)), got_grads)
    others = np.arange(B) != row
    rest = [grads.xs[:, others], *(g[others] for g in grads.start), *(g[:, others] for g in grads.taps)]
    assert not any(grad.any() for grad in rest)


@cache
def compiled_row(name, row, length):
    """Outputs and gradients of one row, unbatched and cut to its length, in both directions."""
    cell, point, weights = case(name)
    part = lambda tree: jax.tree.map(lambda a: jnp.asarray(a[:length, row]), tree)  # noqa: E731
    one = lambda tree: jax.tree.map(lambda a: jnp.asarray(a[row]), tree)  # noqa: E731
    point = Point(point.params, part(point.xs), one(point.start), part(point.taps))
    weights = LossWeights(part(weights.ys), part(weights.carries), one(weights.last))

    def both(point):
        def loss(reverse, point):
            out = run(cell, ("scan", "full", reverse), point, None)
            return loss_of(weights, out), out[:3]

        graded = {back: jax.value_and_grad(partial(loss, back), has_aux=True)(point) for back in (False, True)}
        return {back: (out, grads) for back, ((_, out), grads) in graded.items()}

    return jax.jit(both)(point)


def test_the_past_and_nothing_but_the_past(name):
    """d ys[t] / d xs[s]: exactly zero for the future, not zero for the present and for some of the past."""
    cell, point, _ = case(name)

    @jax.jit
    def jacobians(xs):
        ys = lambda xs, back: unroll(cell, point.params, xs, reverse=back).ys  # noqa: E731
        of_rows = lambda back: jax.vmap(jax.jacrev(partial(ys, back=back)), in_axes=1)  # noqa: E731
        return {back: of_rows(back)(xs) for back in (False, True)}

    for reverse, jacobian in jacobians(point.xs).items():
        source = jacobian.ndim - point.xs.ndim + 1  # jacobian is [row, t, *event, s, *event]
        others = tuple(axis for axis in range(jacobian.ndim) if axis not in (1, source))
        depends = np.abs(jacobian).sum(others)  # [t, s], of all rows: one may be dead, behind a ReLU
        depends = depends.T if reverse else depends
        assert (np.triu(depends, 1) == 0).all()
        assert (np.diag(depends) > 0).all()
        assert np.tril(depends, -1).any()


def test_taps_are_the_adjoint_recursion(name):
    """delta_t = J_{t+1}^T delta_{t+1} + dl_t/dcarry_t, by explicit Jacobians."""
    cell, point, weights = case(name)
    point = point._replace(taps=jax.tree.map(np.zeros_like, point.taps))
    (_, (_, carries, _)), grads = results(name, point)[label(("scan", "full", False))]
    jacobian = partial(step_jacobians, cell, point.params)
    jacobians = np.asarray(jax.jit(jax.vmap(jacobian, in_axes=(1, 0)))(point.xs, point.start))
    cell_weights = cell.prepare(point.params)
    _, pull = jax.vjp(lambda c: cell.read(cell_weights, c, jnp.asarray(point.xs)), jax.tree.map(jnp.asarray, carries))
    direct = jax.tree.map(lambda a, b: np.asarray(a) + b, pull(jnp.asarray(weights.ys))[0], weights.carries)
    flat = jax.vmap(jax.vmap(lambda carry: ravel_pytree(carry)[0]))
    direct, got = np.array(flat(direct)), flat(grads.taps)
    last = np.asarray(jax.vmap(lambda carry: ravel_pytree(carry)[0])(weights.last))
    delta = direct[T - 1] + last
    close(got[T - 1], delta)
    for t in reversed(range(T - 1)):
        delta = np.einsum("bij,bi->bj", jacobians[:, t + 1], delta) + direct[t]
        close(got[t], delta)


@cache
def transformed(name):
    """Under vmap, jvp and a second grad, the last two along `direction`, in one compilation."""
    cell, point, weights = case(name)
    lengths, along = LENGTHS["masked"], direction(name)
    own = default_way(name)

    def over_rows(point):
        row = lambda point, length: tuple(run(cell, own, point, length)[:3])  # noqa: E731
        axes = Point(None, 1, 0, 1)
        out = jax.vmap(row, in_axes=(axes, 0), out_axes=(1, 1, 0))(point, jnp.asarray(lengths))
        return loss_of(weights, out), out

    def loss(variant, point):
        return loss_of(weights, run(cell, variant, point, lengths))

    def everything(point):
        slope = lambda point: dot(jax.grad(partial(loss, own))(point), along)  # noqa: E731
        return {
            "vmap": jax.value_and_grad(over_rows, has_aux=True)(point),
            "jvp": jax.jvp(partial(loss, FORWARD), (point,), (along,))[1],
            "hvp": jax.grad(slope)(point),
            "jvp of grad": jax.jvp(jax.grad(partial(loss, own)), (point,), (along,))[1],
        }

    return jax.tree.map(np.asarray, jax.jit(everything)(point))


@pytest.mark.slow
def test_vmap_over_sequences_is_the_batch(name):
    all_close(transformed(name)["vmap"], at(name, default_way(name)))


@pytest.mark.slow
def test_forward_mode_agrees_with_the_gradient(name):
    slope = dot(at(name, FORWARD)[1], direction(name))
    np.testing.assert_allclose(transformed(name)["jvp"], slope, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hvp", "jvp of grad"])
def test_second_gradients_are_differences_of_gradients(name, how):
    point, along = case(name)[1], direction(name)
    got = ravel_pytree(transformed(name)[how])[0]
    sides = (results(name, moved(point, by, along))[label(default_way(name))][1] for by in (STEP, -STEP))
    ahead, behind = (ravel_pytree(grads)[0] for grads in sides)
    np.testing.assert_allclose(got, (ahead - behind) / (2 * STEP), rtol=1e-6, atol=1e-6 * np.abs(got).max())


def test_default_engine(name):
    cell, point, _ = case(name)
    assert default(cell) is (scan if cell.local is None else fused)
    jaxpr = str(jax.make_jaxpr(lambda xs: unroll(cell, point.params, xs).ys)(point.xs))
    assert ("custom_vjp" in jaxpr) == (cell.local is not None)


def test_forward_mode_of_fused_names_the_engine_to_use(name):
    cell, point, _ = case(name)
    outputs = lambda xs: unroll(cell, point.params, xs).ys  # noqa: E731
    point = jax.tree.map(jnp.asarray, point)
    if cell.local is None:
        jax.eval_shape(lambda xs: jax.jvp(outputs, (xs,), (xs,)), point.xs)
    else:
        with pytest.raises(TypeError, match=r"^fused: .*forward mode.*use engine=scan"):
            jax.jvp(outputs, (point.xs,), (point.xs,))


def test_local_derivatives_are_those_of_the_step(name):
    """Each part of `local` by itself, against autodiff of drive and step, at a random step and cotangent."""
    cell, point, _ = case(name)
    if cell.local is None:
        return
    point = jax.tree.map(jnp.asarray, point)
    weights, first, x = cell.prepare(point.params), point.start, point.xs[0]

    def step(weights, carry, x):
        return cell.step(weights, carry, cell.drive(weights, x))

    expected, pull = jax.vjp(step, weights, first, x)
    carry, factors = cell.local.forward(weights, first, cell.drive(weights, x))
    all_close(carry, expected)
    dcarry = jax.tree.map(lambda leaf: jnp.asarray(np.random.default_rng(1).normal(size=leaf.shape)), expected)
    before, kept = cell.local.backward(cell.local.transposed(weights), factors, dcarry)
    of_one_step = jax.tree.map(lambda a: a[None], (x, first, factors, kept))
    dweights, dx = cell.local.deferred(weights, *of_one_step)
    all_close((dweights, before, dx[0]), pull(dcarry))


def test_numbers_of_parameters_and_shapes_of_carries(name):
    cell, point, _ = case(name)
    assert sum(leaf.size for leaf in jax.tree.leaves(point.params)) == reference.EQUATIONS[name].count(D, H)
    weights = cell.prepare(point.params)
    event, batched = cell.start(weights, ()), cell.start(weights, (2, 3))
    assert jax.tree.leaves(event)
    for one, many in zip(jax.tree.leaves(event), jax.tree.leaves(batched), strict=True):
        assert many.shape == (2, 3, *one.shape)
        assert one.dtype == many.dtype == np.float64
