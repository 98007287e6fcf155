"""A stack with a readout: what its loss counts, and that padding does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import cells
from rnnlab.models.sequence_model import SequenceModel
from rnnlab.tasks import Example
from rnnlab.tasks.task import A_CLASS, A_NUMBER
from rnnlab.types import Directions

T, B, V, C, H = 7, 4, 5, 3, 6
STEPS = np.array([7, 3, 5, 1], np.int32)


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(3)
    inside = np.arange(T)[:, None] < STEPS
    scored = inside & (random.random((T, B)) < 0.7)
    scored[0] = True
    return Example(
        jnp.asarray(np.where(inside, random.integers(0, V, (T, B)), 0), jnp.int32),
        jnp.asarray(np.where(scored, random.integers(0, C, (T, B)), 0), jnp.int32),
        jnp.asarray(scored),
        jnp.asarray(scored & (random.random((T, B)) < 0.5)),
        jnp.asarray(STEPS),
    )


@pytest.fixture(scope="module")
def classes():
    model = SequenceModel([cells.gru(H), Directions(cells.elman(H), cells.elman(H))], V, C, A_CLASS)
    with jax.numpy_dtype_promotion("standard"):
        return model, model.init(jax.random.key(0), jnp.float64)


@pytest.mark.usefixtures("allow_promotion")
def test_the_loss_is_each_rows_own_over_its_scored_steps(classes, batch):
    model, params = classes
    found = model.loss(params, None, batch, None)
    said = np.asarray(model.outputs_of(params, batch.inputs, batch.lengths)[0])
    assert said.shape == (T, B, C)
    logs = said - np.log(np.exp(said).sum(-1, keepdims=True))
    targets, scored, asked = (np.asarray(one) for one in (batch.targets, batch.scored, batch.asked))
    nats = -np.take_along_axis(logs, targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(found.each, (nats * scored).sum(0), rtol=1e-12)
    np.testing.assert_array_equal(found.count, scored.sum(0))
    np.testing.assert_array_equal(found.aux["right"], ((said.argmax(-1) == targets) & asked).sum(0))
    np.testing.assert_array_equal(found.aux["asked"], asked.sum(0))
    np.testing.assert_array_equal(found.keep, np.arange(T)[:, None] < STEPS)


@pytest.mark.usefixtures("allow_promotion")
def test_what_is_in_the_padding_changes_nothing(classes, batch):
    model, params = classes
    inside = jnp.arange(T)[:, None] < batch.lengths
    other = batch._replace(
        inputs=jnp.where(inside, batch.inputs, V - 1), targets=jnp.where(inside, batch.targets, C - 1)
    )
    run = jax.jit(lambda batch: jax.grad(lambda params: model.loss(params, None, batch, None).each.sum())(params))
    for one, two in zip(jax.tree.leaves(run(batch)), jax.tree.leaves(run(other)), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.usefixtures("allow_promotion")
def test_ids_are_read_one_hot(classes, batch):
    model, params = classes
    features = jnp.asarray(np.eye(V)[np.asarray(batch.inputs)])
    ids, hot = (model.outputs_of(params, inputs, batch.lengths)[0] for inputs in (batch.inputs, features))
    np.testing.assert_array_equal(ids, hot)


@pytest.mark.usefixtures("allow_promotion")
def test_an_answer_that_is_a_number(batch):
    model = SequenceModel([cells.elman(H)], 2, 1, A_NUMBER)
    params = model.init(jax.random.key(1), jnp.float64)
    inputs = jax.random.normal(jax.random.key(2), (T, B, 2))
    said = model.outputs_of(params, inputs, batch.lengths)[0][..., 0]
    near = jnp.where(jnp.arange(B) % 2 == 0, said + 0.03, said - 0.05)  # within 0.04 and beyond it
    found = model.loss(params, None, batch._replace(inputs=inputs, targets=near), None)
    off = np.where(np.arange(B) % 2 == 0, 0.03, 0.05) ** 2
    np.testing.assert_allclose(found.each, (off * np.asarray(batch.scored)).sum(0), rtol=1e-9)
    np.testing.assert_array_equal(found.aux["right"], np.where(np.arange(B) % 2 == 0, found.aux["asked"], 0))
