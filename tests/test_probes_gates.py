"""Gates: what is kept, the direct path beside all paths, and the layers' ratios."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rnnlab import probes
from rnnlab.cells import CELLS, elman
from rnnlab.engines import scan
from rnnlab.layers import highway, init_layers, residual
from rnnlab.noise import zoneout
from rnnlab.probes.gates import AFFINE, GATES
from rnnlab.probes.specs import R6
from rnnlab.unroll import unroll

T, B, D, H = 8, 3, 2, 4
GATED = [name for name in CELLS if name.removesuffix("_forget0").removesuffix("_projected") in {*GATES, *AFFINE}]


def normal(seed, shape, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def drawn(cell, seed=0, dim=D, dtype=jnp.float64):
    """Parameters with random biases too."""
    flat, unravel = ravel_pytree(cell.init(jax.random.key(seed), dim, dtype))
    return unravel(flat + 0.3 * normal(seed + 1, flat.shape, dtype))


def assert_the_gate_is_the_diagonal(name):
    """Without recurrent weights nothing else passes: the step's own derivative by its memory is the gate."""
    cell = CELLS[name](H)
    params = drawn(cell)
    params = params._replace(**{f: jnp.zeros_like(getattr(params, f)) for f in ("U", "p", "v") if f in params._fields})
    xs, (gate,) = normal(3, (5, D)), [probes.gate_of(cell)]
    weights = cell.prepare(params)
    carry = jax.tree.map(lambda c: normal(4, c.shape), cell.start(weights, (5,)))
    zs = cell.drive(weights, xs)

    def memory(m):
        return getattr(cell.step(weights, carry._replace(**{gate.memory: m}), zs), gate.memory)

    m = getattr(carry, gate.memory)
    slope = jax.jit(lambda m: jax.jvp(memory, (m,), (jnp.ones_like(m),))[1])(m)  # diagonal: row sums are all of it
    kept = jax.jit(gate.keep)(weights, carry, zs)
    assert kept.shape == m.shape
    np.testing.assert_allclose(slope, kept, rtol=1e-12)


@pytest.mark.parametrize("name", ["lstm"])
def test_a_gate_is_the_diagonal_of_the_step(name):
    assert_the_gate_is_the_diagonal(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", GATED)
def test_every_gate_is_the_diagonal_of_the_step(name):
    assert_the_gate_is_the_diagonal(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GATED if name not in ("min_lstm", "rg_lru", "min_gru", "rhn")])
def test_what_a_step_writes_is_bounded_by_what_it_does_not_keep(name):
    """new - gate * old is a candidate of size 1 at most, times 1 - gate where both make 1; with random U, p and v."""
    cell = CELLS[name](H)
    params, xs = drawn(cell), normal(3, (5, D))
    gate, weights = probes.gate_of(cell), cell.prepare(params)
    carry = jax.tree.map(lambda c: normal(4, c.shape), cell.start(weights, (5,)))
    kept = gate.keep(weights, carry, cell.drive(weights, xs))
    new = getattr(cell.step(weights, carry, cell.drive(weights, xs)), gate.memory)
    written = new - kept * getattr(carry, gate.memory)
    share = jnp.ones_like(kept) if name.startswith(("lstm", "fast_grnn")) else 1 - kept
    bound = jnp.abs(xs @ params.W[:, :H]) if name == "sru" else jnp.ones_like(kept)
    assert (jnp.abs(written) <= share * bound + 1e-12).all()


def test_statistics_of_a_stack_with_lengths():
    stack = (CELLS["lstm"](H), CELLS["min_gru"](H))
    params = init_layers(stack, jax.random.key(0), D, jnp.float64)
    xs, lengths = np.array(normal(1, (T, B, D))), np.array([T, 0, 3])
    padding = np.arange(T)[:, None] >= lengths
    xs[padding] = np.nan
    found = jax.jit(
        lambda p, xs: probes.gate_statistics(stack, p, xs, lengths=jnp.asarray(lengths), join=lambda xs, ys: 2 * ys)
    )(params, jnp.asarray(xs))
    lstm, mingru = (type(p)(*(a if a is None else np.asarray(a) for a in p)) for p in params)
    sigmoid, h, c = lambda a: 1 / (1 + np.exp(-a)), np.zeros(H), np.zeros(H)
    for t in range(lengths[2]):  # the short row by itself, in NumPy
        i, f, g, o = np.split(xs[t, 2] @ lstm.W + h @ lstm.U + lstm.b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(found[0].gates[t, 2], sigmoid(f), rtol=1e-12)
        kept = sigmoid(-(2 * h @ mingru.W + mingru.b)[:H])
        np.testing.assert_allclose(found[1].gates[t, 2], kept, rtol=1e-12)
    for layer in found:
        gates = np.asarray(layer.gates)
        assert (np.isnan(gates).any(-1) == padding).all()
        kept = [gates[t][~padding[t]] for t in range(T)]
        np.testing.assert_allclose(layer.time, np.stack([np.quantile(k, (0.1, 0.5, 0.9)) for k in kept], axis=1))
        flat = np.concatenate(kept)
        np.testing.assert_allclose(layer.units, np.quantile(flat, (0.1, 0.5, 0.9), axis=0))
        np.testing.assert_allclose(layer.time_constants, 1 / (1 - flat.mean(0)))


def assert_paths(name, **how):
    """Against dense Jacobians of each row: total v^T J_T ... J_{t+1}, of the memory's block; direct v prod f."""
    cell = CELLS[name](H)
    params, xs, key = drawn(cell), normal(1, (T, B, D)), jax.random.key(7)
    gate = probes.gate_of(cell)
    lengths = np.array(how.get("lengths", [T] * B))
    [own] = jax.random.split(key, 1)
    v = np.asarray(jax.random.normal(own, (B, H)))
    weights = cell.prepare(params)
    start = cell.start(weights, (B,))

    @jax.jit
    def measured(params, xs):
        before = jax.tree.map(
            lambda s, c: jnp.concatenate([s[None], c[:-1]]), start, unroll(cell, params, xs, engine=scan).carries
        )
        kept = gate.keep(weights, before, cell.drive(weights, xs))
        jacobians = jax.vmap(lambda x: probes.step_jacobians(cell, params, x), 1)(xs)
        return probes.memory_paths((cell,), (params,), xs, key, **how), kept, jacobians

    found, kept, jacobians = jax.tree.map(np.asarray, measured(params, xs))
    marks = type(start)(*(jnp.full(leaf.shape[1:], name == gate.memory) for name, leaf in start._asdict().items()))
    block = np.asarray(ravel_pytree(marks)[0])
    for b, length in enumerate(lengths):
        total, direct = np.zeros(block.size), v[b].copy()
        total[block] = v[b]
        for t in reversed(range(T)):
            if t >= length:
                assert found.direct[0, t, b] == found.total[0, t, b] == found.indirect[0, t, b] == -np.inf
                assert np.isnan(found.cosine[0, t, b])
                continue
            every = total[block]
            want = [np.log(np.linalg.norm(one)) for one in (direct, every)]
            np.testing.assert_allclose([found.direct[0, t, b], found.total[0, t, b]], want, rtol=1e-9, atol=1e-11)
            with np.errstate(divide="ignore"):
                left = np.log(np.linalg.norm(every - direct))
            if left > -20:
                np.testing.assert_allclose(found.indirect[0, t, b], left, rtol=1e-8)
            cosine = direct @ every / np.linalg.norm(direct) / np.linalg.norm(every)
            np.testing.assert_allclose(found.cosine[0, t, b], cosine, rtol=1e-10)
            total, direct = np.asarray(jacobians[b, t]).T @ total, direct * kept[t, b]


def test_paths_of_an_lstm_with_lengths():
    assert_paths("lstm", lengths=[T, 0, 3])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "sru"])
def test_paths_of_other_cells(name):
    assert_paths(name)


def test_the_direct_path_does_not_underflow():
    cell = CELLS["min_gru"](H, update_bias=-3.0)  # affine and diagonal: there is no other path
    params, xs = cell.init(jax.random.key(0), D, jnp.float32), normal(1, (60, B, D), jnp.float32)
    found = jax.jit(lambda p, xs: probes.memory_paths(cell, p, xs, jax.random.key(2)))(params, xs)
    assert (found.total[0, 0] == -jnp.inf).all() and (found.direct[0, 0] < -100).all()
    assert jnp.isfinite(found.direct).all()
    np.testing.assert_allclose(found.direct[0, 40:], found.total[0, 40:], rtol=1e-4)
    np.testing.assert_allclose(found.cosine[0, 40:], 1, rtol=1e-5)


@pytest.mark.parametrize(
    "cell", [elman(3), zoneout(CELLS["lstm"](3), h=0.1), highway(CELLS["gru"](3)), CELLS["lru"](3)]
)
def test_cells_without_known_gates_are_refused(cell):
    with pytest.raises(ValueError, match="gate_of: expected a gated cell"):
        probes.gate_of(cell)


def test_a_gate_of_ones_own():
    cell, half = elman(3), probes.Gate("h", lambda weights, carry, z: jnp.full_like(z, 0.5))
    params = cell.init(jax.random.key(0), D, jnp.float64)
    [found] = probes.gate_statistics(cell, params, normal(1, (T, B, D)), gate=half)
    np.testing.assert_array_equal(found.time_constants, np.full(3, 2.0))


# depth_ratios


def test_depth_ratios_of_a_linear_stack():
    """R6: dh^L_T/dh^l_t = C(k+m, m) a^k u^m, so that one layer down multiplies by u (k+m+1)/(m+1)."""
    L, n, a, u = 3, 9, R6.setting["a"], R6.setting["u"]
    stack = [elman(1, activation=lambda z: z)] * L
    params = init_layers(stack, jax.random.key(0), 1, jnp.float64)
    params = [p._replace(W=jnp.full((1, 1), u), U=jnp.full((1, 1), a)) for p in params]
    norms = jax.jit(lambda xs: probes.gradient_norms(stack, params, xs, lambda ys: ys[-1, ..., 0]))(
        normal(1, (n, 2, 1))
    )
    found = probes.depth_ratios(norms)
    assert found.heat.shape == (L, n)
    k, m = np.arange(n - 1, -1, -1), np.arange(L - 2, -1, -1)[:, None]
    np.testing.assert_allclose(found.ratios, np.log(u * (k + m + 1) / (m + 1)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.heat[-1], k * np.log(a), rtol=1e-12, atol=1e-12)


def test_depth_ratios_do_not_count_padding():
    joint = normal(0, (3, T, B))
    keep = np.arange(T)[:, None] < np.array([T, 0, 3])
    found = probes.depth_ratios(probes.GradientNorms(jnp.where(keep, joint, -jnp.inf), ()), jnp.asarray(keep))
    for t in range(T):
        rows = np.asarray(joint)[:, t, keep[t]]
        np.testing.assert_allclose(found.heat[:, t], rows.mean(-1), rtol=1e-12)
        np.testing.assert_allclose(found.ratios[:, t], (rows[:-1] - rows[1:]).mean(-1), rtol=1e-10)


@pytest.mark.slow
def test_residual_depth_keeps_what_plain_depth_loses():
    """At the last step, where only depth acts: 4 layers of 16 tanh units with weak inputs, plain, residual, highway and
    layer-norm."""
    n, units, ratios = 4, 16, {}
    weak = lambda: elman(units, kernel=lambda *how: 0.3 * jax.random.normal(*how) / units**0.5)  # noqa: E731
    for name, stack, join in (
        ("plain", [weak()] * n, lambda xs, ys: ys),
        ("residual", [weak()] * n, residual),
        ("highway", [highway(weak())] * n, lambda xs, ys: ys),
        ("layer-norm", [CELLS["lstm_layer_norm"](units)] * n, lambda xs, ys: ys),
    ):
        params = init_layers(stack, jax.random.key(0), units, jnp.float64)
        xs, v = normal(1, (6, 4, units)), normal(2, (4, units))
        norms = jax.jit(
            lambda p, xs, stack=stack, join=join, v=v: probes.gradient_norms(
                stack, p, xs, lambda ys: (ys[-1] * v).sum(-1), join=join
            )
        )(params, xs)
        ratios[name] = float(probes.depth_ratios(norms).ratios[:, -1].mean())
    assert ratios["plain"] < -0.8, ratios
    assert abs(ratios["residual"]) < 0.2 and abs(ratios["highway"]) < 0.4, ratios
    assert np.isfinite(ratios["layer-norm"]), ratios
