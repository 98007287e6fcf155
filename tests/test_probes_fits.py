"""Decay fits beside a power law, and how sure they are: exact laws, least squares by NumPy, known coverage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import probes

# A program each, and not one an operation: that is most of the time here.
fit_decay = jax.jit(probes.fit_decay, static_argnums=(1, 2))
fit_power = jax.jit(probes.fit_power, static_argnums=(1, 2))
compare_laws = jax.jit(probes.compare_laws, static_argnums=(1, 2))
bootstrap_decay = jax.jit(probes.bootstrap_decay, static_argnums=(1, 2), static_argnames=("resamples", "level"))


def normal(seed, shape, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def power_line(exponent, intercept, steps):
    """Log-norms in order of time of an exact power law; lag 0 holds a number that must not be looked at."""
    lags = np.arange(steps - 1, -1, -1.0)
    return intercept - exponent * np.log(np.where(lags > 0, lags, np.exp(7.0)))


def line(gamma, intercept, steps):
    return intercept + np.log(gamma) * np.arange(steps - 1, -1, -1.0)


def test_the_correlation_length_is_the_steps_of_a_factor_e():
    fit = fit_decay(jnp.asarray(line(0.8, 1.0, 20)), 0, 19)
    np.testing.assert_allclose(fit.correlation_length, -1 / np.log(0.8), rtol=1e-12)
    np.testing.assert_allclose(fit.gamma**fit.correlation_length, np.exp(-1), rtol=1e-12)


@pytest.mark.parametrize("exponent", [-0.5, 0.7, 3.0])
def test_fit_power_of_an_exact_power_law(exponent):
    logs = np.stack([power_line(exponent, -1.3, 50)] * 2)
    logs[1, 20:25] = -np.inf
    fit = fit_power(jnp.asarray(logs), 1, 44)
    np.testing.assert_allclose(fit.exponent, exponent, rtol=1e-12)
    np.testing.assert_allclose(fit.intercept, -1.3, rtol=1e-11)
    np.testing.assert_allclose(fit.r2, 1, rtol=1e-12)
    assert fit.count.tolist() == [44, 39]


def test_fit_power_is_least_squares():
    logs = np.array(normal(0, (40,))) + power_line(1.5, 0.0, 40)
    slope, intercept = np.polyfit(np.log(np.arange(5, 31)), logs[::-1][5:31], 1)
    fit = fit_power(jnp.asarray(logs), 5, 30)
    np.testing.assert_allclose([fit.exponent, fit.intercept], [-slope, intercept], rtol=1e-11)


def test_fit_power_refuses_lag_0():
    with pytest.raises(ValueError, match=r"fit_power: expected 1 <= first < last < T = 10, got first=0, last=5"):
        fit_power(normal(0, (10,)), 0, 5)


def test_compare_laws_is_the_difference_of_bic():
    logs = np.array(normal(1, (3, 60))) * 0.3 + line(0.95, 1.0, 60)
    found = compare_laws(jnp.asarray(logs), 1, 55)
    lags = np.arange(1, 56.0)
    for row, evidence in zip(logs[:, ::-1][:, 1:56], found.evidence, strict=True):
        residuals = [np.sum((row - np.polyval(np.polyfit(xs, row, 1), xs)) ** 2) for xs in (lags, np.log(lags))]
        bic = [55 * np.log(rss / 55) + 3 * np.log(55) for rss in residuals]
        np.testing.assert_allclose(evidence, bic[1] - bic[0], rtol=1e-9)
    for n, row in enumerate(logs[:, ::-1][:, 1:56]):
        np.testing.assert_allclose(np.log(found.exponential.gamma[n]), np.polyfit(lags, row, 1)[0], rtol=1e-10)
        np.testing.assert_allclose(-found.power.exponent[n], np.polyfit(np.log(lags), row, 1)[0], rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compare_laws_tells_the_two_apart(dtype):
    laws = np.stack([line(0.9, 2.0, 60), power_line(1.2, 2.0, 60), np.full(60, 3.0)])
    evidence = np.asarray(compare_laws(jnp.asarray(laws.astype(dtype)), 1, 55).evidence)
    assert evidence[0] > 500 and evidence[1] < -500
    assert abs(evidence[2]) < 1e-6  # a constant is both: a tie, and no NaN
    noise = np.array(normal(2, (60,))) * 0.05
    evidence = np.asarray(compare_laws(jnp.asarray((laws + noise).astype(dtype)), 1, 55).evidence)
    assert evidence[0] > 50 and evidence[1] < -50


# bootstrap_decay


def test_bootstrap_of_equal_examples_has_no_width():
    logs = jnp.asarray(np.stack([line(0.9, float(b), 30) for b in range(6)]))
    found = bootstrap_decay(logs, 0, 29, jax.random.key(0))
    for value in (found.gamma, *found.gamma_interval):
        np.testing.assert_allclose(value, 0.9, rtol=1e-12)
    for value in (found.half_life, *found.half_life_interval):
        np.testing.assert_allclose(value, np.log(2) / -np.log(0.9), rtol=1e-11)
    assert found.examples == 6


def test_bootstrap_is_the_percentile_interval_of_mean_slopes():
    logs = np.array(normal(3, (6, 30))) * 0.2 + line(0.9, 0.0, 30) * (1 + 0.1 * np.array(normal(4, (6, 1))))
    key = jax.random.key(5)
    found = bootstrap_decay(jnp.asarray(logs), 0, 29, key)
    slopes = np.array([np.polyfit(np.arange(30), row[::-1], 1)[0] for row in logs])
    # Least squares is linear: the mean slope is the slope of the mean.
    np.testing.assert_allclose(np.log(found.gamma), np.polyfit(np.arange(30), logs.mean(0)[::-1], 1)[0], rtol=1e-10)
    np.testing.assert_allclose(found.half_life, -np.log(2) / slopes.mean(), rtol=1e-10)
    drawn = np.asarray(jax.random.randint(key, (1000, 6), 0, 6))
    ends = np.quantile(slopes[drawn].mean(-1), [0.025, 0.975])
    np.testing.assert_allclose(found.gamma_interval, np.exp(ends), rtol=1e-10)
    np.testing.assert_allclose(found.half_life_interval, np.log(2) / -ends, rtol=1e-10)
    assert found.gamma_interval.low < found.gamma < found.gamma_interval.high


def test_bootstrap_around_a_slope_of_0_has_no_longest_half_life():
    slopes = jnp.asarray([-0.02, -0.01, 0.0, 0.01, 0.02, 0.013])
    logs = slopes[:, None] * jnp.arange(29.0, -1, -1)
    found = bootstrap_decay(logs, 0, 29, jax.random.key(0))
    assert found.gamma_interval.low < 1 < found.gamma_interval.high
    assert found.half_life_interval.high == jnp.inf and 30 < found.half_life_interval.low < np.inf


def test_bootstrap_leaves_out_examples_without_a_fit():
    logs = np.array(normal(6, (6, 30))) * 0.1 + line(0.8, 0.0, 30)
    logs[1] = -np.inf
    found = bootstrap_decay(jnp.asarray(logs), 0, 29, jax.random.key(0))
    slopes = [np.polyfit(np.arange(30), row[::-1], 1)[0] for row in np.delete(logs, 1, axis=0)]
    np.testing.assert_allclose(np.log(found.gamma), np.mean(slopes), rtol=1e-10)
    assert found.examples == 5 and found.gamma_interval.low < found.gamma < found.gamma_interval.high
    logs[2:] = -np.inf
    alone = bootstrap_decay(jnp.asarray(logs), 0, 29, jax.random.key(0))
    assert alone.examples == 1 and np.isfinite(alone.gamma) and np.isnan(alone.gamma_interval.low)
    assert np.isnan(alone.half_life_interval).all()


@pytest.mark.parametrize(
    ("shape", "how", "message"),
    [((1, 30), {}, "B >= 2"), ((4, 30), dict(level=1.0), "0 < level < 1"),
     ((4, 30), dict(resamples=0), "resamples >= 1")],
)  # fmt: skip
def test_bootstrap_refuses_what_it_cannot_do(shape, how, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_decay(normal(0, shape), 0, 20, jax.random.key(0), **how)


@pytest.mark.slow
@pytest.mark.parametrize(("B", "low", "high"), [(10, 0.85, 0.93), (40, 0.92, 0.965)])
def test_bootstrap_covers_as_often_as_it_says(B, low, high):
    """Of 1,000 batches whose true slope is known; a percentile interval of B examples covers t's share of sqrt(1 - 1/B)
    standard errors: 0.904 at 10 and 0.941 at 40 for normal slopes."""

    def covered(key):
        spread, noise, draw = jax.random.split(key, 3)
        slopes = -0.1 + 0.02 * jax.random.normal(spread, (B, 1))
        logs = slopes * jnp.arange(29.0, -1, -1) + 0.3 * jax.random.normal(noise, (B, 30))
        interval = bootstrap_decay(logs, 0, 29, draw, resamples=300).gamma_interval
        return (interval.low < np.exp(-0.1)) & (np.exp(-0.1) < interval.high)

    share = jax.jit(lambda keys: jax.lax.map(covered, keys, batch_size=100).mean())(
        jax.random.split(jax.random.key(0), 1000)
    )
    assert low < share < high, share


# align


def test_align_puts_every_rows_last_step_last():
    logs, lengths = normal(7, (6, 4)), np.array([6, 3, 0, 1])
    moved = probes.align(logs, lengths)
    assert moved.shape == (4, 6)
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(moved[row, 6 - length :], logs[:length, row])
        assert (moved[row, : 6 - length] == -np.inf).all()


def test_rows_of_any_length_are_fitted_by_their_own_lags():
    T, lengths = 30, jnp.asarray([30, 25, 21, 17, 29, 3])
    times = jnp.arange(T)[:, None]
    logs = jnp.where(times < lengths, np.log(0.9) * (lengths - 1 - times).astype(float), -jnp.inf)
    found = bootstrap_decay(probes.align(logs, lengths), 0, 10, jax.random.key(0))
    np.testing.assert_allclose(found.gamma, 0.9, rtol=1e-12)
    assert found.examples == 6
