"""Weights of Keras's layers to here and back: stored outputs, a live Keras where there is one, refusals by message."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from rnnlab.cells import CELLS, elman, gru, gru_before, lstm
from rnnlab.interop.keras import from_keras, to_keras
from rnnlab.types import Directions
from rnnlab.unroll import bidirectional, unroll

D, H = 3, 4
CASES = oracles.case_names("keras")


def our_cell(meta):
    """The cell that a layer of Keras is, from the settings that an archive holds."""
    factory = {"SimpleRNN": elman, "LSTM": lstm, "GRU": gru if meta.get("reset_after", True) else gru_before}
    how = {"activation": jax.nn.relu} if meta.get("activation") == "relu" else {}
    cell = factory[meta["layer"]](meta["units"], **how)
    return Directions(cell, cell) if meta["bidirectional"] else cell


def outputs(cell, params, xs):
    """[B, T, H] of inputs [B, T, D], as Keras has them."""
    run = bidirectional if isinstance(cell, Directions) else unroll
    return np.moveaxis(run(cell, params, np.moveaxis(xs, 1, 0)).ys, 0, 1)


def stored(case):
    return [case.arrays[f"w.{number}"] for number in range(len(oracles.under("w.", case.arrays)))]


def same(got, expected):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_there_are_11_cases():
    assert len(CASES) == 11


@pytest.mark.parametrize("name", CASES)
def test_a_stored_layer(name):
    case = oracles.load("keras", name)
    cell, weights = our_cell(case.meta), stored(case)
    params = from_keras(cell, weights)
    np.testing.assert_allclose(outputs(cell, params, case.arrays["x"]), case.arrays["y"], rtol=0, atol=1e-6)
    back = to_keras(cell, params, bias=case.meta["use_bias"])
    for one, other in zip(back, weights, strict=True):
        two = other.ndim == 2 and other.shape[0] == 2  # the biases of r and z: only their sum is kept
        np.testing.assert_array_equal(one.sum(0) if two else one, other.sum(0) if two else other)
    same(from_keras(cell, back), params)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [elman, lstm, gru, gru_before])
def test_from_here_to_keras_and_back_is_exact(make, dtype):
    cell = make(H)
    params = drawn(cell, dtype)
    same(from_keras(cell, to_keras(cell, params)), params)
    same(jax.jit(lambda p: from_keras(cell, to_keras(cell, p)))(params), params)
    unbiased = jax.tree.map(lambda a: a if a.ndim > 1 else jnp.zeros_like(a), params)
    assert len(to_keras(cell, unbiased, bias=False)) == 2
    same(from_keras(cell, to_keras(cell, unbiased, bias=False)), unbiased)
    with pytest.raises(ValueError, match=r"^to_keras: expected a bias of zeros where bias=False"):
        to_keras(cell, params, bias=False)


def drawn(cell, dtype=np.float32):
    """Parameters off their initial values, so that no bias is 0."""
    params = cell.init(jax.random.key(0), D, dtype)
    return jax.tree.map(lambda a: a + jax.random.normal(jax.random.key(a.size), a.shape, dtype), params)


ones = lambda *shape: np.ones(shape, np.float32)  # noqa: E731
WRONG = {
    "another gate count": (gru(H), [ones(D, 16), ones(H, 12)], r"kernel of shape \(3, 12\), got \(3, 16\)"),
    "another width": (gru(H), [ones(D, 12), ones(5, 12)], r"recurrent_kernel of shape \(4, 12\), got \(5, 12\)"),
    "reset_after": (gru_before(H), [ones(D, 12), ones(H, 12), ones(2, 12)], r"bias of shape \(12,\), got \(2, 12\)"),
    "no reset_after": (gru(H), [ones(D, 12), ones(H, 12), ones(12)], r"bias of shape \(2, 12\), got \(12,\)"),
    "one missing": (lstm(H), [ones(D, 16)], r"recurrent_kernel of shape \(4, 16\), got only kernel"),
    "none": (lstm(H), [], r"kernel of shape \(1, 16\), got only nothing"),
    "one more": (
        lstm(H), [ones(D, 16), ones(H, 16), ones(16), ones(16)], "only kernel, recurrent_kernel, bias, got array 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_weights_that_do_not_fit_are_refused_by_name(wrong):
    cell, weights, message = WRONG[wrong]
    with pytest.raises(ValueError, match=f"from_keras: expected {message}"):
        from_keras(cell, weights)


def test_types_are_refused_and_never_cast():
    weights = [ones(D, 16), np.ones((H, 16))]
    with pytest.raises(TypeError, match="expected one float type, got kernel float32 and recurrent_kernel float64"):
        from_keras(lstm(H), weights)
    with jax.enable_x64(False), pytest.raises(TypeError, match="recurrent_kernel of at most float32, got float64"):
        from_keras(lstm(H), weights)


STRANGE = {
    "lstm_projected": "Keras has no projection",
    "lstm_peephole": "Keras has no peepholes",
    "cifg": "Keras has no coupled gates",
    "rhn": "Keras has no cell with HighwayParams",
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_cell_that_keras_has_not_is_refused_by_what_it_lacks(name):
    cell = CELLS[name](H)
    for call in (lambda: from_keras(cell, []), lambda: to_keras(cell, cell.init(jax.random.key(0), D))):
        with pytest.raises(ValueError, match=STRANGE[name]):
            call()


def test_an_activation_that_cannot_be_told_is_refused():
    with pytest.raises(ValueError, match="from_keras: expected an elman cell of tanh or relu"):
        from_keras(elman(H, activation=jnp.sin), [])


def test_parameters_of_another_cell_are_refused():
    with pytest.raises(ValueError, match="to_keras: expected LSTMParams, got GRUParams"):
        to_keras(lstm(H), drawn(gru(H)))
    with pytest.raises(ValueError, match=r"to_keras: expected bn of shape .4,., got only W, U, b"):
        to_keras(gru(H), drawn(gru_before(H)))


# Live.


@pytest.fixture(scope="module")
def keras():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "numpy")
        yield pytest.importorskip("keras")


def their_layer(keras, meta):
    """A layer of Keras from the settings that an archive holds."""
    names = ("units", "use_bias", "reset_after", "activation")
    layer = getattr(keras.layers, meta["layer"])(
        return_sequences=True, dtype="float32", **{name: meta[name] for name in names if name in meta}
    )
    layer = keras.layers.Bidirectional(layer, dtype="float32") if meta["bidirectional"] else layer
    layer.build((None, None, meta["D"]))
    return layer


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # their variables' own
@pytest.mark.parametrize("name", CASES)
def test_a_live_layer_gives_the_same_outputs(keras, name):
    """Weights drawn anew, to here; and ours, to there."""
    case = oracles.load("keras", name)
    layer, cell = their_layer(keras, case.meta), our_cell(case.meta)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=one.shape).astype(np.float32) for one in layer.get_weights()])
    params = from_keras(cell, layer.get_weights())
    np.testing.assert_allclose(outputs(cell, params, case.arrays["x"]), layer(case.arrays["x"]), rtol=0, atol=2e-6)
    layer.set_weights(to_keras(cell, from_keras(cell, stored(case)), bias=case.meta["use_bias"]))
    np.testing.assert_allclose(layer(case.arrays["x"]), case.arrays["y"], rtol=0, atol=1e-6)
