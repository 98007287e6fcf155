"""Initialisers of gates and of critical networks against their papers' statements; R15 among them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import initializers as inits
from rnnlab.cells import cifg, elman, gru, lstm, lstm_peephole, mgu, ugrnn
from rnnlab.layers import zero_taps
from rnnlab.unroll import unroll

H = 20_000
SEEDS = pytest.mark.parametrize("seed", range(3))


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


@SEEDS
@pytest.mark.parametrize("longest", [20, 784])
def test_r15_chrono_time_constants_are_uniform(longest, seed):
    b = inits.chrono(longest)(jax.random.key(seed), (H,), jnp.float64)
    tau = 1 / (1 - sigmoid(b))
    assert tau.min() >= 2 - 1e-9 and tau.max() <= longest + 1e-9
    np.testing.assert_allclose(tau.mean(), 1 + longest / 2, rtol=0.02)
    np.testing.assert_allclose(np.quantile(tau, [0.25, 0.75]), 2 + (longest - 2) * np.array([0.25, 0.75]), rtol=0.04)


@SEEDS
def test_uniform_gates_are_uniform(seed):
    b = inits.uniform_gate()(jax.random.key(seed), (H,), jnp.float64)
    gate = np.sort(sigmoid(b))
    assert gate[0] >= 1 / H and gate[-1] <= 1 - 1 / H
    np.testing.assert_allclose(gate, np.linspace(0, 1, H), atol=0.02)


# The gate that remembers, and the one that writes, with the sign of each; biases are gate by gate.
GATES = {
    "lstm": (lambda b: lstm(H, forget_bias=b), 4, 1, 0),
    "lstm_peephole": (lambda b: lstm_peephole(H, forget_bias=b), 4, 1, 0),
    "gru": (lambda b: gru(H, update_bias=b), 3, 1, None),
    "ugrnn": (lambda b: ugrnn(H, update_bias=b), 2, 0, None),
    "cifg": (lambda b: cifg(H, forget_bias=b), 3, None, 0),
    "mgu": (lambda b: mgu(H, forget_bias=b), 2, None, 0),
}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize(
    "draw", [inits.chrono(50), inits.uniform_gate(), 1.5], ids=["chrono", "uniform_gate", "number"]
)
def test_cells_put_them_where_they_belong(name, draw, monkeypatch):
    make, count, remembers, writes = GATES[name]
    small = 40
    monkeypatch.setitem(globals(), "H", small)
    b = make(draw).init(jax.random.key(0), 2, jnp.float64).b.reshape(count, small)
    drawn = callable(draw)
    expected = np.asarray(b[remembers] if remembers is not None else -b[writes])
    if drawn:
        assert expected.std() > 0.3
        if writes is not None and remembers is not None:
            np.testing.assert_array_equal(b[writes], -b[remembers])
    else:
        np.testing.assert_array_equal(expected, draw)
    others = [n for n in range(count) if n not in (remembers, writes if drawn or remembers is None else None)]
    assert not np.asarray(b)[others].any()


def test_identity_is_the_irnn():
    U = elman(6, activation=jax.nn.relu, recurrent=inits.identity()).init(jax.random.key(0), 2, jnp.float64).U
    np.testing.assert_array_equal(U, np.eye(6))


@pytest.mark.parametrize("drive", [0.0, 0.3, 1.0, 4.0])
def test_critical_scale_makes_chi_one(drive):
    """By Gauss-Hermite quadrature, which the library does not use: the fixed point of q, then chi."""
    scale = inits.critical_scale(drive)
    z, weights = np.polynomial.hermite_e.hermegauss(181)
    weights = weights / weights.sum()
    q = drive + 1.0
    for _ in range(20_000):
        q = scale**2 * (weights @ np.tanh(np.sqrt(q) * z) ** 2) + drive
    chi = scale**2 * (weights @ (1 - np.tanh(np.sqrt(q) * z) ** 2) ** 2)
    np.testing.assert_allclose(chi, 1, atol=2e-3 if drive else 1e-3)


@SEEDS
def test_a_critical_network_neither_fades_nor_explodes(seed):
    """||dL/dh_t|| over 30 steps back in a wide tanh network, inputs of variance 1: within 4 % a step of constant."""
    hidden, steps = 500, 60
    cell = elman(hidden, recurrent=inits.critical(1.0))
    params = cell.init(jax.random.key(seed), hidden, jnp.float64)
    xs = jax.random.normal(jax.random.key(seed + 10), (steps, 1, hidden), jnp.float64)
    out = jax.random.normal(jax.random.key(seed + 20), (hidden,), jnp.float64)

    def last(taps):
        return (unroll(cell, params, xs, taps=taps).ys[-1] @ out).sum()

    norms = np.linalg.norm(jax.grad(last)(zero_taps(cell, params, steps, (1,))).h[:, 0], axis=-1)
    chi = np.exp(2 * (np.log(norms[-31]) - np.log(norms[-1])) / 30)
    np.testing.assert_allclose(chi, 1, atol=0.04)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: inits.chrono(2), "chrono: expected longest >= 3 steps, got 2"),
        (lambda: inits.critical(-1), r"critical: expected a finite drive >= 0, got -1.0"),
    ],
)
def test_wrong_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
