"""Weights to torch and back: exact, refused where torch has no such thing, and equal to a live network's outputs.

The stored archives of `test_torch_oracles.py` go through the same functions, with gradients.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from rnnlab import cells
from rnnlab.cells import elman, gru, lstm
from rnnlab.interop.torch import from_torch, to_torch
from rnnlab.layers import init_layers, layers
from rnnlab.types import Directions

D, H = 3, 4
RELU = elman(H, activation=jax.nn.relu)
STACKS = {
    "tanh": (elman(H),),
    "relu_3": (RELU, RELU, RELU),
    "lstm_both": (Directions(lstm(H), lstm(H)),),
    "lstm_projected_2_both": (Directions(lstm(H, projection=2), lstm(H, projection=2)),) * 2,
    "gru_2": (gru(H), gru(H)),
    "gru_2_both": (Directions(gru(H), gru(H)),) * 2,
}
each_stack = pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)


def drawn(stack, dtype=np.float32, dim=D):
    """Parameters off their initial values, so that no bias is 0."""
    return jax.tree.map(
        lambda a: a + jax.random.normal(jax.random.key(a.size), a.shape, dtype),
        init_layers(stack, jax.random.key(0), dim, dtype),
    )


def same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_stack
def test_from_here_to_torch_and_back_is_exact(stack, dtype):
    params = drawn(stack, dtype)
    same(from_torch(stack, to_torch(stack, params)), params)
    same(jax.jit(lambda p: from_torch(stack, to_torch(stack, p)))(params), params)
    unbiased = jax.tree.map(lambda a: a if a.ndim > 1 else jnp.zeros_like(a), params)
    state = to_torch(stack, unbiased, bias=False)
    assert not any("bias" in name for name in state)
    same(from_torch(stack, {name: np.asarray(one) for name, one in state.items()}), unbiased)


# The weights of the others are of the same shapes.
ALIKE = [name for name in oracles.case_names("torch") if not {"float32", "ragged", "long"} & set(name.split("_"))]


@pytest.mark.parametrize("name", ALIKE)
def test_from_torch_to_here_and_back_keeps_the_weights_and_the_sums_of_biases(name):
    meta, arrays = oracles.load("torch", name)
    stack, state = oracles.torch_cells(oracles.torch_net(meta)), oracles.under("w.", arrays)
    back = to_torch(stack, from_torch(stack, state), bias=meta["bias"])
    assert set(back) == set(state)
    for key, one in state.items():
        if "bias" not in key:
            np.testing.assert_array_equal(back[key], one)
        else:
            other = key.replace("ih", "*").replace("hh", "ih").replace("*", "hh")
            split = 2 * meta["H"] if meta["cell"] == "gru" else one.size
            np.testing.assert_array_equal((back[key] + back[other])[:split], (one + state[other])[:split])
            np.testing.assert_array_equal(back[key][split:], one[split:])


def broken(**changes):
    """A state of two GRU layers with something wrong."""
    state = {name: np.asarray(one) for name, one in to_torch(STACKS["gru_2"], drawn(STACKS["gru_2"])).items()} | changes
    return {name: one for name, one in state.items() if one is not None}


WRONG = {
    "a shape": (dict(weight_hh_l1=np.ones((12, 5), np.float32)), r"weight_hh_l1 of shape \(12, 4\), got \(12, 5\)"),
    "a transpose": (
        dict(weight_ih_l0=np.ones((3, 12), np.float32)),
        r"weight_ih_l0 of shape \(12, 12\), got \(3, 12\)",
    ),
    "one missing": (dict(weight_hh_l1=None), r"weight_hh_l1 of shape \(12, 4\), got only weight_ih_l0, "),
    "a bias missing": (dict(bias_hh_l0=None), r"bias_hh_l0 of shape \(12,\), got only weight_ih_l0, "),
    "a layer more": (
        dict(weight_ih_l2=np.ones((12, 4), np.float32)),
        r"only .*weight_ih_l0, weight_ih_l1, got weight_ih_l2 of shape",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_state_that_does_not_fit_is_refused_by_name(wrong):
    changes, message = WRONG[wrong]
    with pytest.raises(ValueError, match="^from_torch: expected " + message):
        from_torch(STACKS["gru_2"], broken(**changes))


TYPES = {
    "integers": (dict(bias_hh_l0=np.ones(12, int)), "expected bias_hh_l0 of a float type, got int64"),
    "objects": (dict(bias_hh_l0=[[1], [2, 3]]), "expected bias_hh_l0 as an array on the CPU, got <class 'list'>"),
    "mixed": (
        dict(bias_hh_l0=np.ones(12)), "expected one float type, got weight_ih_l0 float32 and bias_hh_l0 float64"
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", TYPES)
def test_types_are_refused_and_never_cast(wrong):
    changes, message = TYPES[wrong]
    with pytest.raises(TypeError, match=message):
        from_torch(STACKS["gru_2"], broken(**changes))


def test_float64_is_refused_where_it_would_be_narrowed():
    state = {name: np.asarray(one, np.float64) for name, one in broken().items()}
    with jax.enable_x64(False), pytest.raises(TypeError, match="expected weight_ih_l0 of at most float32, got float64"):
        from_torch(STACKS["gru_2"], state)


STRANGE = {
    "gru_before": "torch has no reset before the product",
    "lstm_peephole": "torch has no peepholes",
    "cifg": "torch has no coupled gates",
    "lstm_1997": "torch has no LSTM without a forget gate",
    "lstm_layer_norm": "torch has no cell with NormedLSTMParams",
    "mgu": "torch has no cell with OneGateParams",
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_cell_that_torch_has_not_is_refused_by_what_it_lacks(name):
    stack = (cells.CELLS[name](H),)
    params = init_layers(stack, jax.random.key(0), D)
    for call in (lambda: to_torch(stack, params), lambda: from_torch(stack, broken())):
        with pytest.raises(ValueError, match=STRANGE[name]):
            call()


def test_a_stack_that_torch_has_not_is_refused():
    for stack, message in [
        ((gru(4), gru(5)), "the same cell in every layer and direction"),
        ((elman(4), RELU), "the same cell in every layer and direction, got .'tanh', .4, 4.. and .'relu'"),
        ((gru(4), Directions(gru(4), gru(4))), "Directions in all layers or in none"),
        ((elman(4, activation=jnp.sin),), "expected an elman cell of tanh or relu"),
    ]:
        with pytest.raises(ValueError, match=message):
            from_torch(stack, {})
    with pytest.raises(TypeError, match=r"write \(cell,\) for one layer"):
        from_torch(Directions(gru(4), gru(4)), {})
    with pytest.raises(ValueError, match="expected params for 2 layers, got 1"):
        to_torch(STACKS["gru_2"], drawn(STACKS["gru_2"])[:1])


def test_a_bias_is_not_dropped_unseen():
    with pytest.raises(ValueError, match="expected bias_ih_l0 of zeros where bias=False"):
        to_torch(STACKS["gru_2"], drawn(STACKS["gru_2"]), bias=False)
    params = jax.tree.map(jnp.zeros_like, drawn(STACKS["gru_2"]))
    params = (params[0], params[1]._replace(bn=params[1].bn + 1))
    with pytest.raises(ValueError, match="expected bias_hh_l1 of zeros where bias=False"):
        to_torch(STACKS["gru_2"], params, bias=False)


def test_parameters_of_another_cell_are_refused():
    params = drawn(STACKS["gru_2"])
    with pytest.raises(ValueError, match="to_torch: expected LSTMParams, got GRUParams"):
        to_torch((lstm(H), lstm(H)), params)
    with pytest.raises(ValueError, match=r"to_torch: expected W of shape \(3, 15\), got \(3, 12\)"):
        to_torch((gru(5), gru(5)), params)
    with pytest.raises(ValueError, match=r"to_torch: expected R of shape \(4, 4\), got only W, U, b"):
        to_torch((lstm(H, projection=H),), drawn((lstm(H),)))


# Live. The conftest hides torch from everything else; imported twice in a process it breaks.


@pytest.fixture(scope="module")
def torch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "meta_path", [one for one in sys.meta_path if type(one).__name__ != "NoTorch"])
        yield pytest.importorskip("torch")


def network(torch, stack, **how):
    both = isinstance(stack[0], Directions)
    one = stack[0].forward if both else stack[0]
    params = one.init(jax.random.key(0), D)
    kind = {"ElmanParams": torch.nn.RNN, "LSTMParams": torch.nn.LSTM, "GRUParams": torch.nn.GRU}[type(params).__name__]
    how |= {"nonlinearity": "relu"} if one is RELU else {}
    how |= {"proj_size": 2} if getattr(params, "R", None) is not None else {}
    return kind(D, H, num_layers=len(stack), bidirectional=both, **how)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("bias", [True, False])
@each_stack
def test_a_live_network_gives_the_same_outputs(torch, stack, bias):
    torch.manual_seed(0)
    net = network(torch, stack, bias=bias)
    xs = np.random.default_rng(0).normal(size=(6, 2, D)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(xs))[0].numpy()
    params = from_torch(stack, net.state_dict())
    np.testing.assert_allclose(layers(stack, params, xs).ys, expected, rtol=0, atol=1e-6)
    # And theirs from ours.
    params = jax.tree.map(lambda a: a * 0.5, params)
    other = network(torch, stack, bias=bias)
    state = to_torch(stack, params, bias=bias)
    other.load_state_dict({name: torch.from_numpy(np.array(one)) for name, one in state.items()})
    with torch.no_grad():
        np.testing.assert_allclose(layers(stack, params, xs).ys, other(torch.from_numpy(xs))[0], rtol=0, atol=1e-6)
