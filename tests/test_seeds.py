"""Seeds together: each is its run alone, and the way that was measured fastest is taken."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import seeds
from rnnlab.cells import CELLS
from rnnlab.unroll import unroll

T, B, D, H, S = 5, 3, 4, 6, 3


def training_step(name):
    cell = CELLS[name](H)

    def step(key, xs):
        params = cell.init(key, D, jnp.float64)
        return jax.value_and_grad(lambda params: (unroll(cell, params, xs).ys ** 2).sum())(params)

    return step


def arguments():
    return jax.random.split(jax.random.key(7), S), jax.random.normal(jax.random.key(1), (S, T, B, D))


@pytest.mark.parametrize("way", seeds.WAYS)
@pytest.mark.parametrize("name", ["lstm", "gru_before"])
def test_each_seed_is_its_run_alone(name, way):
    step, (keys, xs) = training_step(name), arguments()
    found = seeds.over_seeds(step, way=way)
    assert (found.way, found.seconds) == (way, {})
    all_of_them = found(keys, xs)
    for n in range(S):
        alone = jax.jit(step)(keys[n], xs[n])
        got = jax.tree.map(lambda a, n=n: np.asarray(a[n]), all_of_them)
        jax.tree.map(lambda g, e: np.testing.assert_allclose(g, e, rtol=1e-12, atol=1e-12), got, alone)


def test_the_fastest_way_is_taken(monkeypatch):
    def slower(build, seconds):
        def built(function):
            run = build(function)
            return lambda *args: (time.sleep(seconds), run(*args))[1]

        return built

    ways = {"in turn": slower(seeds.in_turn, 0.05), "map": seeds.mapped, "vmap": slower(seeds.together, 0.05)}
    monkeypatch.setattr(seeds, "WAYS", ways)
    found = seeds.over_seeds(lambda x: x + 1, jnp.arange(3.0), seconds=0.01)
    assert found.way == "map" and set(found.seconds) == set(ways)
    assert found.seconds["map"] < 0.05 <= found.seconds["vmap"]
    np.testing.assert_array_equal(found(jnp.arange(4.0)), [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("examples", "way", "words"),
    [
        ((), "pmap", "one of in turn, map, vmap, got 'pmap'"),
        ((), None, "example arguments"),
        ((jnp.zeros(3), jnp.zeros(2)), None, "one leading axis"),
        ((jnp.zeros(()),), None, "one leading axis"),
    ],
)
def test_what_does_not_fit_is_refused(examples, way, words):
    with pytest.raises(ValueError, match=words):
        seeds.over_seeds(lambda x: x, *examples, way=way)
