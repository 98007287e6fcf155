import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import cells
from rnnlab.layers import zero_taps
from rnnlab.models.language_model import LanguageModel
from rnnlab.unroll import unroll

pytestmark = pytest.mark.usefixtures("allow_promotion")

V, E, T, B = 7, 4, 6, 3


def model_and_ids(seed: int):
    model = LanguageModel((cells.gru(5), cells.lstm(6)), V, E)
    return model, model.init(jax.random.key(seed), jnp.float64), jax.random.randint(jax.random.key(9), (T + 1, B), 0, V)


@pytest.mark.parametrize("seed", range(2))
def test_the_losses_are_those_of_the_written_out_model(seed):
    model, params, ids = model_and_ids(seed)
    xs = params.embed["params"]["embedding"][ids[:-1]]
    for cell, p in zip(model.cells, params.stack, strict=True):
        xs = unroll(cell, p, xs).ys
    logits = xs @ params.readout["params"]["kernel"] + params.readout["params"]["bias"]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(probabilities, np.asarray(ids[1:])[..., None], -1)[..., 0])
    np.testing.assert_allclose(model.losses(params, ids), expected, rtol=1e-12)


def test_a_loss_depends_on_no_later_character():
    model, params, ids = model_and_ids(0)
    changed = ids.at[4].set((ids[4] + 1) % V)
    before, after = model.losses(params, ids), model.losses(params, changed)
    np.testing.assert_array_equal(before[:3], after[:3])  # step t reads ids[0..t] and predicts ids[t+1]
    assert np.all(before[3:] != after[3:])


def test_taps_reach_every_layer():
    model, params, ids = model_and_ids(0)
    taps = zero_taps(model.cells, params.stack, T, (B,))
    pulled = jax.grad(lambda taps: model.losses(params, ids, taps=taps)[-1].sum())(taps)
    assert all(np.all(np.abs(leaf).sum(-1) > 0) for leaf in jax.tree.leaves(pulled[0]))
