"""The training step against NumPy loops over each row by itself, unpadded, in float64."""

from functools import cache, partial
from typing import NamedTuple

import elman_loops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import cells, seeds, train
from rnnlab.cells.hidden import Hidden
from rnnlab.errors import InputError
from rnnlab.layers import layers, zero_taps
from rnnlab.losses import Losses
from rnnlab.models.language_model import LanguageModel
from rnnlab.train.step import _row_norms
from rnnlab.train.telemetry import norm, norms

pytestmark = pytest.mark.usefixtures("allow_promotion")

T, B, D, H, L = 7, 4, 3, 5, 2
STACK = (cells.elman(H),) * L
RATE, CLIP = 0.3, 0.05
LENGTHS = np.array([7, 0, 3, 5], np.int32)  # one row is empty


class Rows(NamedTuple):
    """xs: [T, B, D]. lengths: [B]."""

    xs: np.ndarray
    lengths: np.ndarray


def sgd(rate: float = RATE):
    return train.optimiser("sgd", train.schedule("constant", peak=rate, steps=1, warm_up=0))


@cache
def start(seed: int = 0, dtype=np.float64):
    random = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(random.normal(size=shape).astype(dtype) / 2)  # noqa: E731
    widths = [D] + [H] * L
    stack = tuple(type(ELMAN)(draw(widths[n], H), draw(H, H), draw(H)) for n in range(L))
    return {"stack": stack, "head": draw(H)}


ELMAN = jax.eval_shape(lambda: STACK[0].init(jax.random.key(0), D))


def rows(seed: int = 0) -> Rows:
    xs = np.random.default_rng(seed + 100).normal(size=(T, B, D))
    xs[np.arange(T)[:, None] >= LENGTHS] = np.nan  # padding may hold anything
    return Rows(xs, LENGTHS)


def loss(params, taps, batch, keys, carry) -> Losses:
    keep = jnp.arange(T)[:, None] < batch.lengths
    out = layers(STACK, params["stack"], batch.xs, taps=taps, lengths=batch.lengths)
    steps = jnp.where(keep, (out.ys @ params["head"]) ** 2, 0)
    large = (keep & (steps > 0.1)).sum(0).astype(steps.dtype)
    count = batch.lengths.astype(steps.dtype)
    return Losses(steps.sum(0), count, carries=out.carries, keep=keep, aux={"large": large})


def taps(params, batch):
    return zero_taps(STACK, params["stack"], *batch.xs.shape[:1], batch.xs.shape[1:2])


def state(optimiser, params=None, seed: int = 3):
    return train.init_state(start() if params is None else params, optimiser, jax.random.key(seed))


def close(found, expected, rtol=1e-12, atol=1e-13):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=atol), found, expected)


def size(tree) -> float:
    return float(np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(tree))))


@cache
def alone():
    """Losses, gradients, slopes and steps of every row that is not empty."""
    found = [elman_loops.row(start(), rows().xs[:n, b]) for b, n in enumerate(LENGTHS) if n]
    losses, gradients, slopes, _, steps = zip(*found, strict=True)
    return sum(losses), jax.tree.map(lambda *leaves: sum(leaves), *gradients), slopes, np.concatenate(steps)


def test_a_step_is_that_of_every_row_alone():
    given = state(sgd())
    step = train.train_step(loss, sgd(), axes=Rows(1, 0), taps=taps, clip=CLIP)
    after, seen = step(given, rows())
    total, gradient, slopes, steps = alone()
    count = LENGTHS.sum()
    mean = jax.tree.map(lambda g: g / count, gradient)
    np.testing.assert_allclose([seen.loss, seen.count, seen.norm], [total / count, count, size(mean)], rtol=1e-12)
    np.testing.assert_allclose(seen.aux["large"], (steps > 0.1).mean(), rtol=1e-12)
    for layer in range(L):
        for t in range(T):
            logs = [np.log(np.linalg.norm(one[layer][t])) for one in slopes if len(one[layer]) > t]
            np.testing.assert_allclose(np.asarray(seen.norms.joint)[layer, t], np.mean(logs), rtol=1e-12)
            np.testing.assert_allclose(np.asarray(seen.norms.parts[layer].h)[t], np.mean(logs), rtol=1e-12)
    assert seen.clipped and size(mean) > CLIP
    np.testing.assert_allclose([seen.clipped_norm, seen.rate], [CLIP, RATE], rtol=1e-12)
    update = jax.tree.map(lambda g: -RATE * g * CLIP / size(mean), mean)
    close(after.params, jax.tree.map(lambda p, dw: np.asarray(p) + dw, start(), update))
    assert list(seen.ratios) == ["head", "stack.0", "stack.1"]
    for name, part in (("head", lambda tree: tree["head"]), ("stack.1", lambda tree: tree["stack"][1])):
        np.testing.assert_allclose(seen.ratios[name], size(part(update)) / size(part(start())), rtol=1e-12)
    assert after.step == 1 and after.step.dtype == jnp.int32 and seen.finite and train.describe(seen) is None
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given.params))  # a step uses its state up,
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((start(), after)))  # and nobody else's arrays


def test_neither_pieces_nor_rows_nor_the_mean_change_a_norm():
    """Twice the rows, in two pieces one after another; the mean over rows and not over steps; no clipping."""
    twice = jax.tree.map(lambda leaf, axis: np.concatenate([leaf, leaf], axis), rows(), Rows(1, 0))
    pure = train.pure_step(train.per_row(loss), sgd(), axes=Rows(1, 0), taps=taps, accumulate=2)
    after, seen = jax.jit(pure)(state(sgd()), twice)
    total, gradient, slopes, _ = alone()
    for layer in range(L):
        logs = [np.mean([np.log(np.linalg.norm(one[layer][t])) for one in slopes if len(one[layer]) > t])
                for t in range(T)]  # fmt: skip
        np.testing.assert_allclose(seen.norms.joint[layer], logs, rtol=1e-12)
    count = (LENGTHS > 0).sum()
    mean = jax.tree.map(lambda g: g / count, gradient)
    np.testing.assert_allclose([seen.count, seen.loss], [2 * count, total / count], rtol=1e-12)
    np.testing.assert_allclose([seen.norm, seen.clipped_norm], size(mean), rtol=1e-12)
    close(after.params, jax.tree.map(lambda p, g: np.asarray(p) - RATE * g, start(), mean))
    assert not seen.clipped


def test_a_norm_of_0_counts_and_padding_does_not():
    """-inf where a row that counts has none, whatever the others; NaN in the end where no row counts."""
    keep = np.array([[1, 1], [1, 0], [0, 0]], bool)
    pulled = (Hidden(jnp.asarray(np.array([[[3.0, 4], [0, 0]], [[0.6, 0.8], [9, 9]], [[9, 9], [9, 9]]]))),)
    sums = jax.jit(lambda *losses: _row_norms(Losses(*losses, keep=keep), pulled, jnp.float64))
    norms, counted, bad = sums(jnp.ones(2), jnp.array([2.0, 1.0]))
    np.testing.assert_allclose(norms.joint, [[-np.inf, 0, 0]], atol=1e-15)
    assert counted.tolist() == [2, 1, 0] and not bad.any()
    norms, counted, _ = sums(jnp.ones(2), jnp.array([2.0, 0.0]))  # the second row is empty
    np.testing.assert_allclose(norms.parts[0].h, [np.log(5), 0, 0], atol=1e-15)
    assert counted.tolist() == [1, 1, 0]


@pytest.mark.parametrize("power", [-150, 0, 150])
def test_a_norm_neither_overflows_nor_vanishes(power):
    a, b = (np.random.default_rng(k).normal(size=(3, k)) for k in (1, 2))
    found = jax.jit(norm)({"a": a * 10.0**power, "b": b * 10.0**power, "none": np.zeros(0)})
    np.testing.assert_allclose(found, np.sqrt((a**2).sum() + (b**2).sum()) * 10.0**power, rtol=1e-12)


def test_a_norm_at_the_end_of_the_format():
    tree = {"a": np.array([1.5e38, 1e37], np.float32), "b": np.array([-1e38], np.float32)}
    exact = np.linalg.norm(np.array([1.5e38, 1e37, 1e38]))
    np.testing.assert_allclose(jax.jit(norm)(tree), exact, rtol=1e-6)


def test_a_norm_says_what_is_not_finite():
    tree = {"a": np.array([1.0, np.nan]), "b": np.array([1e200, 1e200]), "c": [np.array([-np.inf, 2.0])]}
    found = jax.jit(norms)(tree, {"a": np.zeros(2), "b": np.full(2, 3.0), "c": [np.full(2, 4.0)]})
    found = jax.device_get(found)
    np.testing.assert_allclose(found["b"], [np.sqrt(2) * 1e200, np.sqrt(18)])
    assert np.isnan(found["a"][0]) and found["a"][1] == 0 and found["c.0"][0] == np.inf


# Random numbers.


def noisy(params, taps, batch, keys, carry) -> Losses:
    """A draw of every row's own key, and one of the first's."""
    each = jax.vmap(jax.random.normal)(keys)
    return Losses(each * params["w"], jnp.ones(len(each)), aux={"shared": each * 0 + jax.random.normal(keys[0])})


def test_random_numbers_come_from_key_step_and_row():
    """In two pieces, a row's own draw is what it is in the whole batch; the first row's is each piece's."""
    run = jax.jit(train.pure_step(noisy, sgd(0.0), axes=0, taps=None, accumulate=2))

    def seen(step: int, seed: int = 3):
        return run(state(sgd(0.0), {"w": jnp.ones(())}, seed).replace(step=jnp.int32(step)), np.zeros(B))[1]

    @jax.jit
    def own(key):
        fold, rows = jax.random.fold_in, jnp.arange(B)
        return jax.vmap(lambda row: jax.random.normal(fold(fold(key, 5), row)))(rows)

    found, draws = seen(5), np.asarray(own(jax.random.key(3)))
    np.testing.assert_allclose([found.loss, found.aux["shared"]], [draws.mean(), (draws[0] + draws[2]) / 2], rtol=1e-12)
    assert len({float(one.loss) for one in (found, seen(6), seen(5, seed=4))}) == 3
    assert found.norms is None and found.place.carries is None and found.place.gradients is None


def test_dropout_drops_features_of_a_row_at_every_step_alike():
    keys = jax.random.split(jax.random.key(1), B)
    model = LanguageModel((cells.elman(H),), 9, 4, dropout=0.5)
    xs = jax.random.normal(jax.random.key(2), (T, B, 400))
    join = jax.jit(lambda keys, depth: model._dropped(keys, depth)(xs, xs) / xs, static_argnums=1)
    given = (keys, 1), (keys.at[0].set(keys[1]), 1), (keys, 2)
    kept, other, above = (np.asarray(join(*args)).round(9) for args in given)
    assert set(np.unique(kept)) == {0.0, 2.0} and 0.4 < kept.mean() / 2 < 0.6
    assert (kept == kept[0]).all() and not (kept[0, 0] == kept[0, 1]).all() and not (kept == above).all()
    assert (kept[0, 1:] == other[0, 1:]).all() and (kept[0, 1] == other[0, 0]).all()  # each row has its own key


# Types, seeds.


@pytest.mark.slow
def test_bfloat16_computes_and_float32_learns():
    """Updates far below bfloat16's resolution of a weight add up; where the weights are bfloat16 they are lost."""
    params, tiny, types = start(0, np.float32), sgd(1e-5), []

    def typed(params, taps, batch, keys, carry):
        found = loss(params, taps, batch, keys, carry)
        types.append({leaf.dtype for leaf in jax.tree.leaves((params, taps, batch.xs, found.carries))})
        return found

    batch = jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == float else a, rows())
    step = train.train_step(typed, tiny, axes=Rows(1, 0), taps=taps, compute=jnp.bfloat16)
    after, seen = step(state(tiny, params), batch)
    assert types[-1] == {jnp.dtype(jnp.bfloat16)}
    for leaf in jax.tree.leaves((after.params, seen.loss, seen.norm, seen.norms, seen.ratios)):
        assert leaf.dtype == jnp.float32
    new, old = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(p["stack"])]) for p in (after.params, params))
    changed = new != old
    assert changed.mean() > 0.5
    assert (new.astype(jnp.bfloat16) == old.astype(jnp.bfloat16))[changed].mean() > 0.9
    exact = [elman_loops.row(start(), rows().xs[:n, b])[0] for b, n in enumerate(LENGTHS)]
    np.testing.assert_allclose(seen.loss, sum(exact) / LENGTHS.sum(), rtol=0.05)
    assert abs(seen.loss / (sum(exact) / LENGTHS.sum()) - 1) > 1e-6


@pytest.mark.slow
def test_seeds_in_one_process_are_each_alone():
    pure = train.pure_step(loss, sgd(), axes=Rows(1, 0), taps=taps, clip=CLIP)
    states, batches = [state(sgd(), start(n), n) for n in range(2)], [rows(n) for n in range(2)]
    stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *some) for some in (states, batches)]
    alone = [jax.jit(pure)(*one) for one in zip(states, batches, strict=True)]
    for way in ("vmap", "map"):
        after, seen = seeds.over_seeds(pure, way=way)(*stacked)
        for n, (expected, told) in enumerate(alone):
            close(jax.tree.map(lambda a, n=n: np.asarray(a)[n], (after.params, seen)), (expected.params, told))
            assert after.key[n] == expected.key


# What is not finite.


@jax.custom_jvp
def tilted(x, slope):
    """0, of any slope."""
    return jnp.zeros_like(x)


tilted.defjvp(lambda primals, tangents: (tilted(*primals), primals[1] * tangents[0]))


class Poison(NamedTuple):
    """What is added to carries [T, B, L]; slopes of carries [T, B, L], and of the head [B]; losses and counts [B]."""

    carries: np.ndarray
    slopes: np.ndarray
    head: np.ndarray
    each: np.ndarray
    count: np.ndarray


def poisoned(params, taps, batch, keys, carry) -> Losses:
    xs, poison = batch
    taps = tuple(jax.tree.map(lambda t, n=n: t + poison.carries[..., n, None], tap) for n, tap in enumerate(taps))
    out = layers(STACK, params["stack"], xs, taps=taps)
    steps = sum(tilted(out.carries[n].h, poison.slopes[..., n, None]).sum(-1) for n in range(L))
    each = (steps + out.ys @ params["head"]).sum(0) + poison.each
    each += tilted(jnp.broadcast_to(params["head"], (B, H)), poison.head[:, None]).sum(-1)
    return Losses(each, poison.count, carries=out.carries)


@cache
def poisoned_step():
    optimiser = train.optimiser("adam", lambda count: 0.1)
    shape = lambda params, batch: zero_taps(STACK, params["stack"], T, (B,))  # noqa: E731
    pure = train.pure_step(poisoned, optimiser, axes=(1, Poison(1, 1, 0, 0, 0)), taps=shape)
    return optimiser, jax.jit(pure)


@pytest.mark.parametrize(
    ("field", "place", "value", "words"),
    [
        ("count", (), 1.0, None),
        ("carries", (4, 1, 1), np.nan, "layer 2 of 2, timestep 5 of 7 (carry)"),
        ("carries", (0, 2, 1), np.inf, "layer 2 of 2, timestep 1 of 7 (carry)"),
        ("carries", (6, 0, 0), np.nan, "layer 1 of 2, timestep 7 of 7 (carry)"),
        ("slopes", (3, 3, 1), np.inf, "layer 2 of 2, timestep 4 of 7 (gradient of the carry)"),
        ("slopes", (5, 0, 0), np.nan, "layer 1 of 2, timestep 6 of 7 (gradient of the carry)"),
        ("head", (2,), np.nan, "parameters head (gradient or new value)"),
        ("head", (2,), 1e200, "the state of the optimiser or the last carry"),  # its square overflows in Adam
        ("each", (1,), np.inf, "the loss alone"),
        ("count", (), 0.0, "the loss: no row of the batch counts"),
    ],
)
def test_the_first_that_is_not_finite_is_named_and_the_state_stays(field, place, value, words):
    optimiser, step = poisoned_step()
    poison = Poison(np.zeros((T, B, L)), np.zeros((T, B, L)), np.zeros(B), np.zeros(B), np.ones(B))
    getattr(poison, field)[place] = value
    before = state(optimiser)
    after, seen = step(before, (np.random.default_rng(5).normal(size=(T, B, D)), poison))
    seen = jax.device_get(seen)
    assert train.describe(seen) == words and seen.finite == (words is None)
    same = jax.tree.map(np.array_equal, after.replace(key=()), before.replace(key=()))
    assert all(jax.tree.leaves(same)) == (words is not None)
    if field == "slopes":  # without carries, the gradient still names the place, and says that it is one
        unseen = seen._replace(place=seen.place._replace(carries=None))
        assert train.describe(unseen) == words.replace(")", "; the loss hands out no carries)")


def test_an_update_that_is_not_finite_is_named():
    optimiser, step = poisoned_step()
    given = state(optimiser)
    moments = jax.tree.map(lambda m: m.at[0].set(jnp.inf) if m.ndim else m, given.optimiser)
    poison = Poison(np.zeros((T, B, L)), np.zeros((T, B, L)), np.zeros(B), np.zeros(B), np.ones(B))
    _, seen = step(given.replace(optimiser=moments), (np.random.default_rng(5).normal(size=(T, B, D)), poison))
    assert train.describe(seen) == "parameters head (gradient or new value)"


# What does not fit.


def refused(loss=loss, batch=None, **how):
    step = train.pure_step(loss, sgd(), **(dict(axes=Rows(1, 0), taps=taps) | how))
    jax.eval_shape(step, state(sgd()), rows() if batch is None else batch)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="multiple of 3 rows, for 1 devices with 3 pieces each, got 4"):
        refused(accumulate=3)
    with pytest.raises(ValueError, match="accumulate >= 1"):
        refused(accumulate=0)
    with pytest.raises(ValueError, match="clip > 0"):
        refused(clip=0.0)
    with pytest.raises(ValueError, match=r"as many rows.*lengths"):
        refused(batch=rows()._replace(lengths=LENGTHS[:3]))
    with pytest.raises(ValueError, match=r"each of shape \(4,\), one a row, got \(\)"):
        refused(lambda *args: (found := loss(*args))._replace(each=found.each.sum()))
    with pytest.raises(ValueError, match="wrong of shape"):
        refused(lambda *args: loss(*args)._replace(aux={"wrong": jnp.ones(T)}))
    with pytest.raises(ValueError, match="carry of the state's structure"):
        refused(lambda *args: loss(*args)._replace(carry=(jnp.ones(B),)))
