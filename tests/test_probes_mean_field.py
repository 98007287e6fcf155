"""Mean field against closed forms, brute force and wide networks: R8, and gated cells with their weights tied."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from experiments import _closed_forms_networks as networks
from experiments._closed_forms_check import require
from rnnlab import initializers as inits
from rnnlab.probes.mean_field import critical_line, gru_mean_field, lstm_mean_field, mean_field, phase_diagram
from rnnlab.probes.specs import R8, R8_GATED


def test_r8_theory():
    sigma_w, sigma_v = np.array(R8.setting["sigmas"]).T
    found, finer = jax.jit(lambda w, v: (mean_field(jnp.tanh, w, v), mean_field(jnp.tanh, w, v, points=512)))(
        sigma_w, sigma_v
    )
    np.testing.assert_allclose(found.chi, R8.expected, rtol=0, atol=R8.tolerance["theory"])
    np.testing.assert_allclose(found.chi, finer.chi, rtol=1e-12)  # converged
    np.testing.assert_allclose(found.xi, 1 / np.abs(np.log(found.chi)), rtol=1e-12)
    assert found.phase.tolist() == [-1] * 4 + [1] * 4
    q, settled = found.q[0], lambda z: np.tanh(math.sqrt(found.q[0]) * z) ** 2  # the fixed point, by other means
    density = lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    expected = integrate.quad(lambda z: settled(z) * density(z), -10, 10, epsabs=1e-13)[0]
    np.testing.assert_allclose(q, 0.25 * expected + 1, rtol=1e-11)


def test_relu_has_a_closed_form():
    sigma_w = jnp.asarray([0.7, 1.2, math.sqrt(2), 1.9])
    found = jax.jit(lambda w: mean_field(jax.nn.relu, w, 0.6, 0.3))(sigma_w)
    np.testing.assert_allclose(found.chi, sigma_w**2 / 2, rtol=1e-12)
    np.testing.assert_allclose(found.q[:2], 0.45 / (1 - sigma_w[:2] ** 2 / 2), rtol=1e-12)
    assert (found.q[2:] == jnp.inf).all()  # nothing holds it
    assert found.phase.tolist() == [-1, -1, 0, 1]


def test_erf_has_a_closed_form():
    """E erf(a)^2 = (2/pi) asin(2q / (1 + 2q)) (Williams 1997), E erf'(a)^2 = (4/pi) / sqrt(1 + 4q)."""
    sigma_w, sigma_v = jnp.asarray([0.5, 1.0, 2.0]), jnp.asarray([[0.4], [1.0]])
    found = jax.jit(lambda w, v: mean_field(jax.scipy.special.erf, w, v, 0.2))(sigma_w, sigma_v)
    q = np.asarray(found.q)
    settled = np.asarray(sigma_w) ** 2 * 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)) + np.asarray(sigma_v) ** 2 + 0.04
    np.testing.assert_allclose(q, settled, rtol=1e-11)
    np.testing.assert_allclose(found.chi, np.asarray(sigma_w) ** 2 * 4 / np.pi / np.sqrt(1 + 4 * q), rtol=1e-11)


def test_without_a_drive_a_small_network_falls_silent():
    found = jax.jit(lambda w: mean_field(jnp.tanh, w))(jnp.asarray([0.5, 1.0, 1.5]))
    assert found.q[0] < 1e-15 and found.q[2] > 0.5
    np.testing.assert_allclose(found.chi[:2], [0.25, 1], rtol=1e-6)
    assert found.phase.tolist() == [-1, 0, 1]


def test_the_critical_line_is_that_of_the_initialiser():
    drives = jnp.asarray([0.0, 0.3])
    line = jax.jit(lambda v: critical_line(jnp.tanh, v))(jnp.sqrt(drives))
    np.testing.assert_allclose(line, [inits.critical_scale(float(d)) for d in drives], rtol=1e-6)


def test_a_phase_diagram_is_a_grid_in_float32_too():
    w, v = jnp.asarray([0.5, 2.0, 3.0], jnp.float32), jnp.asarray([0.0, 1.0], jnp.float32)
    grid = jax.jit(lambda w, v: phase_diagram(jnp.tanh, w, v))(w, v)
    assert grid.chi.shape == (2, 3) and grid.chi.dtype == jnp.float32
    known = dict(zip(R8.setting["sigmas"], R8.expected, strict=True))
    for row, column, sigmas in ((1, 0, (0.5, 1.0)), (0, 1, (2.0, 0.0)), (1, 1, (2.0, 1.0)), (0, 2, (3.0, 0.0))):
        np.testing.assert_allclose(grid.chi[row, column], known[sigmas], rtol=0, atol=R8.tolerance["theory"] + 1e-5)


# Gates. x = (E f)^2, y = s^2: the untied and the tied theory, by sampling.


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def test_lstm_moments_by_sampling():
    sigma_w, sigma_v, bias = 1.4, 0.8, 1.0
    found = jax.jit(lambda: lstm_mean_field(sigma_w, sigma_v, bias))()
    draw = np.random.default_rng(0)
    N = 400_000
    i, f, g, o = np.sqrt(found.q) * draw.standard_normal((4, N)) + np.array([[0], [bias], [0], [0]])
    c = np.sqrt(found.memory) * draw.standard_normal(N)
    gate, slope, bent = sigmoid, lambda a: sigmoid(a) * (1 - sigmoid(a)), lambda a: 1 - np.tanh(a) ** 2
    np.testing.assert_allclose(found.q, sigma_w**2 * found.hidden + sigma_v**2, rtol=1e-5)
    np.testing.assert_allclose(found.hidden, np.mean((gate(o) * np.tanh(c)) ** 2), rtol=0.01)
    # One step back of E dc^2 and E dh^2, from unit-variance dc or dh at random: the map whose eigenvalue `untied` is.
    columns = []
    for dc, dh in ((1.0, 0.0), (0.0, 1.0)):
        d = dc * draw.standard_normal(N) + dh * draw.standard_normal(N) * gate(o) * bent(c)
        before = np.sqrt(found.memory) * draw.standard_normal(N)
        pulled = d * before * slope(f), d * np.tanh(g) * slope(i), d * gate(i) * bent(g)
        last = dh * draw.standard_normal(N) * np.tanh(c) * slope(o)
        columns.append([np.mean((d * gate(f)) ** 2), sigma_w**2 * sum(np.mean(p**2) for p in (*pulled, last))])
    untied = np.abs(np.linalg.eigvals(np.array(columns).T)).max()
    np.testing.assert_allclose(found.untied, untied, rtol=0.01)
    x = np.mean(gate(f)) ** 2
    y = (sigma_w * np.mean(gate(i)) * np.mean(bent(g)) * np.mean(gate(o)) * np.mean(bent(c))) ** 2
    np.testing.assert_allclose(found.chi, R8_GATED.expected(x, y, untied), rtol=0.01)


def test_gru_moments_by_sampling():
    sigma_w, sigma_v, bias = 1.4, 0.8, 1.0
    found = jax.jit(lambda: gru_mean_field(sigma_w, sigma_v, bias))()
    draw = np.random.default_rng(1)
    N = 400_000
    r, z = sigmoid(np.sqrt(found.q) * draw.standard_normal((2, N)) + np.array([[0], [bias]]))
    s, x = sigma_w * np.sqrt(found.hidden) * draw.standard_normal(N), sigma_v * draw.standard_normal(N)
    n, h = np.tanh(x + r * s), np.sqrt(found.hidden) * draw.standard_normal(N)
    bent = (1 - z) * (1 - n**2)
    gates = (
        np.mean((h - n) ** 2 * (z * (1 - z)) ** 2) + np.mean((bent * r) ** 2) + np.mean((bent * s * r * (1 - r)) ** 2)
    )
    np.testing.assert_allclose(found.untied, np.mean(z**2) + sigma_w**2 * gates, rtol=0.01)
    x, y = np.mean(z) ** 2, (sigma_w * np.mean(bent * r)) ** 2
    np.testing.assert_allclose(found.chi, R8_GATED.expected(x, y, found.untied), rtol=0.01)
    # E h^2 of h' = z h + G h + noise, the noise's variance being E (1-z)^2 n^2 less what G is of it.
    powers = np.array([sum(math.comb(k, j) ** 2 * x ** (k - j) * y**j for j in range(k + 1)) for k in range(150)])
    fresh = np.mean(((1 - z) * n) ** 2) - y * found.hidden + (np.mean(z**2) - x) * found.hidden
    np.testing.assert_allclose(found.hidden, fresh * powers.sum(), rtol=0.03)


@pytest.mark.parametrize("theory", [lstm_mean_field, gru_mean_field])
def test_gates_without_recurrent_weights_only_forget(theory):
    """s = 0: tied and untied are E f^2, and at sigma_v = 0 the gate is a number."""
    found = jax.jit(theory)(0.0, 0.0, jnp.asarray([0.0, 2.0]))
    for chi in (found.chi, found.untied):
        np.testing.assert_allclose(chi, sigmoid(np.array([0.0, 2.0])) ** 2, rtol=1e-10)
    assert found.phase.tolist() == [-1, -1]


# Wide networks.


@pytest.mark.slow
def test_r8_measured():
    require(networks.r8_measured(R8))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_gated_theory_of_tied_weights_is_what_networks_do(name):
    require(networks.r8_gated_measured(R8_GATED, name))
