"""sLSTM and mLSTM against the authors' code, against their unstabilised equations, and where gates overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import reference
from equation import sigmoid
from equations_xlstm import EQUATIONS

from rnnlab import cells
from rnnlab.types import identity
from rnnlab.unroll import unroll

T, B, D, H = 12, 3, 3, 4
CASES = oracles.case_names("xlstm")
FACTORIES = {"slstm": cells.slstm, "mlstm": cells.mlstm}
FORGETS = {"sigmoid": (jax.nn.log_sigmoid, sigmoid), "exponential": (identity, np.exp)}
each_cell = pytest.mark.parametrize("name", FACTORIES)
each_heads = pytest.mark.parametrize("heads", [1, 2])
close = lambda got, expected: np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)  # noqa: E731


def made(name, heads, dtype=jnp.float64, **options):
    """A cell and parameters of which none is 0."""
    cell = FACTORIES[name](H, heads=heads, **options)
    params = cell.init(jax.random.key(0), D, dtype)
    return cell, jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape, dtype), params)


def inputs(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


# The authors' code.


def slstm_params(w, heads):
    """Its rows are by gate, then by head; ours by head, then by gate."""
    by_head = lambda a: jnp.swapaxes(a.reshape(4, heads, H // heads, -1), 0, 1).reshape(4 * H, -1)  # noqa: E731
    return cells.SLSTMParams(by_head(w["W"]).T, jnp.swapaxes(w["R"], 1, 2), by_head(w["b"])[:, 0])


def mlstm_params(w, heads):
    joined = lambda gates, kind: jnp.concatenate([w[f"{gate}.{kind}"] for gate in gates])  # noqa: E731
    matrices = joined("ifkv", "weight").T, joined("ifkv", "bias")
    return cells.MLSTMParams(*matrices, joined("qo", "weight").T, joined("qo", "bias"))


def test_there_are_6_cases():
    assert len(CASES) == 6


@pytest.mark.parametrize("case", CASES)
def test_outputs_states_and_gradients_are_those_of_the_authors_code(case):
    meta, arrays = oracles.load("xlstm", case)
    cell = FACTORIES[meta["cell"]](H, heads=meta["heads"])
    params_of = {"slstm": slstm_params, "mlstm": mlstm_params}[meta["cell"]]

    def loss(leaves):
        out = unroll(cell, params_of(oracles.under("w.", leaves), meta["heads"]), leaves["x"])
        return (arrays["Gy"] * out.ys).sum(), out

    leaves = {key: jnp.asarray(a) for key, a in arrays.items() if key == "x" or key.startswith("w.")}
    (value, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(leaves)
    carries = out.carries._asdict()
    if meta["cell"] == "mlstm":
        carries["C"] = jnp.swapaxes(carries["C"], -1, -2)  # theirs is [k, v]
    states = {f"{leaf}s": carries[leaf] for leaf in carries if f"{leaf}s" in arrays}
    assert len(states) == (0 if meta.get("form") == "parallel" else 3)
    for key, got in {"loss": value, "y": out.ys, **states, **{f"g.{k}": g for k, g in grads.items()}}.items():
        np.testing.assert_allclose(got, arrays[key], rtol=1e-9, atol=1e-11, err_msg=key)


# The equations before they are stabilised: they overflow where gates are large, and need no m.


def plain_slstm(params, xs, forget, heads):
    """Outputs [T, H] of one row: equations 8 to 14."""
    size, ys = H // heads, np.zeros((len(xs), H))
    for k in range(heads):
        W, b = (np.split(part, heads, axis=-1)[k] for part in (params.W, params.b))
        h, c, n = np.zeros((3, size))
        for t, x in enumerate(xs):
            i, f, g, o = np.split(x @ W + h @ params.U[k] + b, 4)
            c, n = forget(f) * c + np.exp(i) * np.tanh(g), forget(f) * n + np.exp(i)
            h = ys[t, k * size : (k + 1) * size] = sigmoid(o) * c / n
    return ys


def plain_mlstm(params, xs, forget, heads):
    """Outputs [T, H] of one row: equations 19 to 27."""
    size, ys = H // heads, np.zeros((len(xs), H))
    i, f = np.split((xs @ params.W + params.b)[:, : 2 * heads], 2, axis=-1)
    parts = np.concatenate([(xs @ params.W + params.b)[:, 2 * heads :], xs @ params.V + params.c], axis=-1)
    for k in range(heads):
        own = slice(k * size, (k + 1) * size)
        keys, values, queries, outs = (part[:, own] for part in np.split(parts, 4, axis=-1))
        C, n = np.zeros((size, size)), np.zeros(size)
        for t in range(len(xs)):
            C = forget(f[t, k]) * C + np.exp(i[t, k]) * np.outer(values[t], keys[t] / np.sqrt(size))
            n = forget(f[t, k]) * n + np.exp(i[t, k]) * keys[t] / np.sqrt(size)
            ys[t, own] = sigmoid(outs[t]) * (C @ queries[t]) / max(abs(n @ queries[t]), 1)
    return ys


PLAIN = {"slstm": plain_slstm, "mlstm": plain_mlstm}


@pytest.mark.parametrize("forget", FORGETS)
@each_heads
@each_cell
def test_stabilised_outputs_are_the_unstabilised_ones(name, heads, forget):
    log_f, f = FORGETS[forget]
    cell, params = made(name, heads, forget=log_f, forget_bias=0.0)
    xs = inputs(T, B, D)
    expected = [PLAIN[name](jax.tree.map(np.asarray, params), row, f, heads) for row in np.moveaxis(xs, 1, 0)]
    close(unroll(cell, params, xs).ys, np.stack(expected, axis=1))


@each_heads
@each_cell
def test_heads_follow_their_equation_under_lengths(name, heads):
    cell, params = made(name, heads)
    xs, lengths = np.asarray(inputs(T, B, D)), np.array([T, 0, 5])
    start = jax.tree.map(np.asarray, cell.start(params, (B,)))
    taps = jax.tree.map(lambda leaf: np.zeros((T, *leaf.shape)), start)
    expected = reference.loop(EQUATIONS[name], jax.tree.map(np.asarray, params), xs, start, taps=taps, lengths=lengths)
    got = unroll(cell, params, xs, lengths=lengths)
    for one, other in zip(jax.tree.leaves(tuple(got[:3])), jax.tree.leaves(tuple(expected)), strict=True):
        close(one, other)


def test_two_heads_of_slstm_are_two_cells_side_by_side():
    (cell, params), xs = made("slstm", 2), inputs(T, B, D)
    each = cells.slstm(H // 2)
    W, b = (jnp.split(part, 2, axis=-1) for part in (params.W, params.b))
    apart = [unroll(each, cells.SLSTMParams(W[k], params.U[k][None], b[k]), xs).ys for k in range(2)]
    close(unroll(cell, params, xs).ys, jnp.concatenate(apart, axis=-1))


def test_two_heads_of_mlstm_are_two_cells_side_by_side():
    (cell, params), xs = made("mlstm", 2), inputs(T, B, D)
    each = cells.mlstm(H // 2)

    def head(part, k):
        """W and b are i i f f k k v v, and V and c are q q o o: a number a head, then the units of a head."""
        gates, units = jnp.split(part, [part.shape[-1] % (2 * H)], axis=-1)
        units = units.reshape(*units.shape[:-1], 2, 2, H // 2)[..., k, :]
        return jnp.concatenate([gates[..., k::2], units.reshape(*part.shape[:-1], -1)], axis=-1)

    apart = [unroll(each, jax.tree.map(lambda part, k=k: head(part, k), params), xs).ys for k in range(2)]
    close(unroll(cell, params, xs).ys, jnp.concatenate(apart, axis=-1))


@each_cell
def test_the_stabiliser_is_a_scale_and_nothing_else(name):
    """A start of another m and the same memory gives the same outputs."""
    (cell, params), xs = made(name, 2), inputs(T, B, D)
    memory = [leaf for leaf in cell.start(params, (B,))._fields if leaf not in "hm"]
    last = unroll(cell, params, xs).last
    other = last._replace(m=last.m - 2.0, **{leaf: getattr(last, leaf) * np.exp(2.0) for leaf in memory})
    close(*(unroll(cell, params, xs, start=start).ys for start in (last, other)))


def test_the_memory_of_slstm_fades_by_its_forget_gate():
    cell = cells.slstm(H, forget_bias=2.0)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), D, jnp.float64))._replace(
        b=cell.init(jax.random.key(0), D, jnp.float64).b
    )
    start = cell.start(params, ())._replace(c=inputs(H), n=jnp.ones(H), m=inputs(H, seed=1))
    carries = unroll(cell, params, jnp.zeros((T, D)), start=start).carries
    memory = np.exp(carries.m) * carries.c
    close(memory, np.exp(start.m) * start.c * sigmoid(2.0) ** np.arange(1, T + 1)[:, None])


# Where exp(i) overflows, in float32.


SIGNS = np.array([[1] * 6, [-1] * 6, [1, -1, -1, 1, 1, -1], [0, 0, -1, -1, 1, 0]]).T  # [T, B]


@each_cell
def test_large_gates_stay_finite_and_exact_in_float32(name):
    """Pre-activations of i and f of +-200, by the first input alone: up, down, both, and late."""
    heads = 2
    cell, params = made(name, heads, jnp.float32)
    gates = {"slstm": H // heads * 2, "mlstm": heads * 2}[name]
    params = params._replace(W=params.W.at[0, :gates].set(200.0))
    xs = inputs(*SIGNS.shape, D).astype(np.float32).at[..., 0].set(SIGNS.astype(np.float32))

    def loss(params, xs):
        out = unroll(cell, params, xs)
        return (out.ys**2).sum(), out[:3]

    def slopes(xs):
        return sum(leaf.sum() for leaf in jax.tree.leaves(jax.grad(loss, has_aux=True)(params, xs)[0]))

    (_, out), grads = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, xs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((out, grads, jax.jit(jax.grad(slopes))(xs))))
    exact = unroll(cell, jax.tree.map(lambda p: p.astype(np.float64), params), xs.astype(np.float64)).ys
    np.testing.assert_allclose(out[0], exact, rtol=0, atol=2e-4)


@each_cell
def test_long_sequences_of_large_inputs_stay_finite_in_float32(name):
    cell, params = made(name, 2, jnp.float32)
    xs = 100 * inputs(2000, 2, D).astype(np.float32)
    value, grads = jax.jit(jax.value_and_grad(lambda p: (unroll(cell, p, xs).ys[-1] ** 2).sum()))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, grads)))
    assert value > 0


def test_the_normaliser_of_slstm_is_never_below_1():
    """So that the floor of 1/2 changes nothing that a sequence gives."""
    cell, params = made("slstm", 2, jnp.float32)
    n = unroll(cell, params, 10 * inputs(200, B, D).astype(np.float32)).carries.n
    assert n.min() > 1 - 1e-6
    assert n.max() > 2


def test_slstm_writes_its_first_input_however_closed_the_gate_is():
    """Nothing is remembered yet, so that c_1 / n_1 is tanh(g) whatever exp(i) is, an underflow included."""
    cell, params = made("slstm", 1, jnp.float32)
    params = params._replace(b=params.b.at[:H].set(-500.0))
    x = inputs(1, D).astype(np.float32)
    _, _, g, o = np.split(np.asarray(x[0] @ params.W + params.b), 4)
    np.testing.assert_allclose(unroll(cell, params, x).ys[0], sigmoid(o) * np.tanh(g), rtol=1e-5)


@each_cell
def test_a_step_from_zeros_has_finite_gradients_with_the_input_gate_shut(name):
    """As at padding: a carry of zeros, an input of zeros. exp(i) underflows, and n with it."""
    cell, params = made(name, 1, jnp.float32)
    params = params._replace(b=params.b.at[: {"slstm": H, "mlstm": 1}[name]].set(-500.0))
    zeros = jax.tree.map(jnp.zeros_like, cell.start(params, ()))

    def loss(params, carry, x):
        carry = cell.step(params, carry, cell.drive(params, x))
        return cell.read(params, carry, x).sum() + sum(leaf.sum() for leaf in carry)

    point = params, zeros, jnp.zeros(D, np.float32)
    grad = jax.grad(loss, (0, 1, 2))
    second = jax.grad(lambda *point: sum(leaf.sum() for leaf in jax.tree.leaves(grad(*point))), (0, 1, 2))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.jit(lambda *p: (grad(*p), second(*p)))(*point)))


def test_mlstm_asked_with_nothing_on_a_large_memory_answers_nothing():
    """q = 0 where exp(-m) underflows: without a floor 0 / 0."""
    cell = cells.mlstm(H)
    params = cell.init(jax.random.key(0), D, jnp.float32)
    carry = cells.MLSTMCarry(
        jnp.ones((1, H, H), np.float32), jnp.ones((1, H), np.float32), jnp.full(1, 200, np.float32)
    )
    value, grads = jax.value_and_grad(lambda c: cell.read(params, c, jnp.zeros(D, np.float32)).sum())(carry)
    assert value == 0
    assert all(np.isfinite(leaf).all() for leaf in grads)


# Options.


def test_forget_biases():
    b = cells.slstm(4, heads=2).init(jax.random.key(0), D).b.reshape(2, 4, 2)
    np.testing.assert_array_equal(b, [[[0, 0], [3, 6], [0, 0], [0, 0]]] * 2)
    b = cells.mlstm(8, heads=4).init(jax.random.key(0), D).b
    np.testing.assert_array_equal(b[:8], [0, 0, 0, 0, 3, 4, 5, 6])
    assert not b[8:].any()
    b = cells.slstm(2, forget_bias=1.0).init(jax.random.key(0), D).b
    np.testing.assert_array_equal(b, [0, 0, 1, 1, 0, 0, 0, 0])
    b = cells.mlstm(2, forget_bias=1.0).init(jax.random.key(0), D).b
    np.testing.assert_array_equal(b, [0, 1, 0, 0, 0, 0])


@pytest.mark.parametrize("heads", [0, -1, 3])
@each_cell
def test_heads_that_do_not_divide_the_units_are_refused(name, heads):
    with pytest.raises(ValueError, match=f"^{name}: expected a number of heads that divides the 4 units, got {heads}"):
        FACTORIES[name](H, heads=heads)
