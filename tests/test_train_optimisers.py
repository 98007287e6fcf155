"""Optimisers and schedules by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import train
from rnnlab.errors import InputError

pytestmark = pytest.mark.usefixtures("allow_promotion")


@pytest.mark.parametrize(
    ("name", "down"),
    [
        ("constant", lambda n: 1.0),
        ("cosine", lambda n: (1 + np.cos(np.pi * n / 30)) / 2),
        ("linear", lambda n: 1 - n / 30),
        ("inverse_sqrt", lambda n: np.sqrt(10 / (10 + n))),
    ],
)
def test_a_schedule_warms_up_and_comes_down(name, down):
    found = jax.jit(jax.vmap(train.schedule(name, peak=0.2, steps=40, warm_up=10)))(jnp.arange(41))
    expected = [0.2 * n / 10 if n < 10 else 0.2 * down(n - 10) for n in range(41)]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert float(train.schedule(name, peak=0.2, steps=40, warm_up=0)(0)) == pytest.approx(0.2)


@pytest.mark.parametrize("name", train.OPTIMISERS)
def test_an_optimiser_goes_downhill(name):
    """On a bowl, in one compiled scan; by about its rate in a step, where it has one."""
    rate = train.schedule("constant", peak=0.05, steps=60, warm_up=0)
    made = train.optimiser(name, rate)

    @jax.jit
    def descend(weights):
        def step(carry, _):
            updates, moments = made.update(carry[0], carry[1], carry[0])  # the gradient of w^2 / 2 is w
            return (carry[0] + updates, moments), None

        return jax.lax.scan(step, (weights, made.init(weights)), length=60)[0][0]

    start = np.array([1.0, -2.0, 0.5])
    end = np.asarray(descend(jnp.asarray(start)))
    assert (end**2).sum() < 0.8 * (start**2).sum() and made.rate(3) == 0.05


def test_options_are_optaxs():
    rate = train.schedule("constant", peak=1.0, steps=1, warm_up=0)
    weights = jnp.array([2.0, -4.0])
    made = train.optimiser("adamw", rate, weight_decay=0.25)
    updates, _ = made.update(jnp.zeros(2), made.init(weights), weights)
    np.testing.assert_allclose(updates, -0.25 * weights, rtol=1e-6)
    with pytest.raises(TypeError, match="wieght_decay"):
        train.optimiser("adamw", rate, wieght_decay=0.25)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: train.optimiser("adamm", lambda n: 1.0), "optimiser: expected one of adam, .*, got 'adamm'"),
        (lambda: train.schedule("cos", peak=1.0, steps=9, warm_up=0), "schedule: expected one of constant, .* 'cos'"),
        (lambda: train.schedule("cosine", peak=-1.0, steps=9, warm_up=0), "at least 0, got -1.0"),
        (lambda: train.schedule("cosine", peak=float("nan"), steps=9, warm_up=0), "at least 0, got nan"),
        (lambda: train.schedule("cosine", peak=1.0, steps=9, warm_up=10), "between 0 and all 9 steps, got 10"),
    ],
)
def test_what_is_not_there_is_refused(made, words):
    with pytest.raises(InputError, match=words):
        made()
