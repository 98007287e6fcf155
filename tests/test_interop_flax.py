"""Every cell as a module of flax, linen and nnx, against `unroll` and `layers`; and flax's own cells against ours."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from rnnlab.cells import CELLS, ConvLSTMParams, ElmanParams, GRUParams, LSTMParams, conv_lstm, elman, gru, lstm, ugrnn
from rnnlab.cells.gated import OneGateParams
from rnnlab.engines import scan
from rnnlab.interop.linen import LinenCell, LinenStack
from rnnlab.interop.nnx import NNXCell
from rnnlab.layers import layers, plain, residual
from rnnlab.noise import zoneout
from rnnlab.types import Directions
from rnnlab.unroll import bidirectional, unroll

pytestmark = pytest.mark.slow  # every cell compiles in another library's loop

T, B, D, H = 5, 3, 2, 4
F = np.float64
LENGTHS = np.array([5, 2, 4])
# flax leaves what it computed at padding where we leave zeros.
VALID = (np.arange(T)[:, None] < LENGTHS)[..., None]


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def moved(tree):
    """Off the initial values, so that no bias is 0."""
    return jax.tree.map(lambda a: a + 0.1 * random(a.size, *a.shape), tree)


def close(got, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), got, expected)


def slopes(run, params, xs):
    """Outputs and gradients of a random linear function of them, by parameters and inputs; compiled once."""

    def loss(params, xs):
        ys = run(params, xs)
        return jnp.vdot(random(7, *ys.shape), ys), ys

    (_, ys), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(params, xs)
    return ys, grads


@cache
def expected(name):
    """cell, parameters, inputs and what `unroll` makes of them."""
    cell, xs = CELLS[name](H), random(0, T, B, D)
    params = moved(cell.init(jax.random.key(0), D, F))
    return cell, params, xs, slopes(lambda p, xs: unroll(cell, p, xs, engine=scan).ys, params, xs)


@pytest.mark.parametrize("name", CELLS)
def test_a_linen_cell_equals_unroll(name):
    cell, params, xs, slope = expected(name)
    rnn = nn.RNN(LinenCell(cell, F), time_major=True)
    drawn = jax.eval_shape(rnn.init, jax.random.key(0), xs)
    assert drawn == {"params": {"cell": {"weights": jax.eval_shape(lambda: params)}}}

    def run(params, xs):
        start = cell.start(cell.prepare(params), (B,))  # linen cannot learn it: its first carry is not the parameters'
        return rnn.apply({"params": {"cell": {"weights": params}}}, xs, initial_carry=start)

    close(slopes(run, params, xs), slope)


@pytest.mark.parametrize("name", CELLS)
def test_an_nnx_cell_equals_unroll(name):
    cell, params, xs, slope = expected(name)

    def run(params, xs):
        rnn = nnx.RNN(NNXCell(cell, D, param_dtype=F, rngs=nnx.Rngs(0)), time_major=True)
        rnn.cell.weights.set_value(params)
        return rnn(xs)

    close(slopes(run, params, xs), slope)


def test_nnx_grad_gives_the_gradient_of_the_one_entry():
    cell, xs = lstm(H), random(0, T, B, D)
    rnn = nnx.RNN(NNXCell(cell, D, param_dtype=F, rngs=nnx.Rngs(0)), time_major=True)
    got = nnx.grad(lambda rnn: rnn(xs).sum())(rnn)
    params = rnn.cell.weights.get_value()
    close(got["cell"]["weights"].get_value(), jax.grad(lambda p: unroll(cell, p, xs).ys.sum())(params))


@pytest.mark.parametrize("time_major", [True, False])
@pytest.mark.parametrize("library", ["linen", "nnx"])
def test_lengths_carries_and_both_directions(library, time_major):
    cell, xs = gru(H), random(0, T, B, D)
    both = Directions(*(moved(cell.init(jax.random.key(n), D, F)) for n in range(2)))
    if library == "linen":
        rnn = nn.Bidirectional(*(nn.RNN(LinenCell(cell, F)) for _ in both))
        values = {f"{side}_rnn": {"cell": {"weights": one}} for side, one in zip(both._fields, both, strict=True)}
        run = lambda xs, **how: rnn.apply({"params": values}, xs, **how)  # noqa: E731
    else:
        rnns = [nnx.RNN(NNXCell(cell, D, param_dtype=F, rngs=nnx.Rngs(0))) for _ in both]
        for one, params in zip(rnns, both, strict=True):
            one.cell.weights.set_value(params)
        run = nnx.Bidirectional(*rnns)
    given = xs if time_major else np.moveaxis(xs, 1, 0)
    last, ys = run(given, seq_lengths=LENGTHS, return_carry=True, time_major=time_major)
    expected = bidirectional(Directions(cell, cell), both, xs, lengths=LENGTHS)
    close(np.where(VALID, ys if time_major else np.moveaxis(ys, 1, 0), 0), expected.ys)
    close(tuple(last), tuple(expected.last))


def test_image_cells_have_three_feature_axes():
    cell, xs = conv_lstm(2, rows=3, columns=4), random(0, T, B, 3, 4, 1)
    params = moved(cell.init(jax.random.key(0), 1, F))
    expected = unroll(cell, params, xs).ys
    rnn = nn.RNN(LinenCell(cell, F), time_major=True)
    assert rnn.cell.num_feature_axes == 3
    close(rnn.apply({"params": {"cell": {"weights": params}}}, xs), expected)
    other = NNXCell(cell, 1, param_dtype=F, rngs=nnx.Rngs(0))
    other.weights.set_value(params)
    close(nnx.RNN(other)(np.moveaxis(xs, 1, 0)), np.moveaxis(expected, 1, 0))


def test_what_a_cell_prepares_is_prepared():
    cell = elman(H)._replace(prepare=lambda params: params._replace(U=jnp.tanh(params.U)))
    xs, params = random(0, T, B, D), moved(elman(H).init(jax.random.key(0), D, F))
    expected = unroll(cell, params, xs).ys
    rnn = nn.RNN(LinenCell(cell, F), time_major=True)
    close(rnn.apply({"params": {"cell": {"weights": params}}}, xs), expected)
    other = NNXCell(cell, D, param_dtype=F, rngs=nnx.Rngs(0))
    other.weights.set_value(params)
    close(nnx.RNN(other, time_major=True)(xs), expected)


def test_a_first_carry_of_the_parameters_is_learned_in_nnx_and_given_in_linen():
    """A start that depends on parameters: nnx asks the module, linen draws other ones and must be given it."""
    plain_cell = elman(H)
    cell = plain_cell._replace(
        start=lambda w, batch: plain_cell.start(w, batch)._replace(h=w.b + jnp.zeros((*batch, H)))
    )
    xs, params = random(0, T, B, D), moved(cell.init(jax.random.key(0), D, F))
    expected = unroll(cell, params, xs).ys
    other = NNXCell(cell, D, param_dtype=F, rngs=nnx.Rngs(0))
    other.weights.set_value(params)
    close(nnx.RNN(other, time_major=True)(xs), expected)
    with pytest.raises(TypeError, match="NNXCell: expected no carry_init, for the cell has a start"):
        other.initialize_carry((B, D), carry_init=nn.initializers.ones)
    rnn, values = nn.RNN(LinenCell(cell, F), time_major=True), {"params": {"cell": {"weights": params}}}
    close(rnn.apply(values, xs, initial_carry=cell.start(params, (B,))), expected)
    assert not np.allclose(rnn.apply(values, xs), expected)  # the limit that the docstring tells


STACK = Directions(gru(H), elman(H)), lstm(2 * H), elman(2 * H)


RESETS = np.zeros((T, B), bool)
RESETS[2, 0] = RESETS[3, 2] = True


@pytest.mark.parametrize("given", [{"lengths": LENGTHS, "resets": RESETS}, {"reverse": True}], ids=" and ".join)
def test_a_linen_stack_equals_layers(given):
    stack = STACK[1:] if given.get("reverse") else STACK
    join = (plain, residual, residual)[-len(stack) :] if stack is STACK else plain
    module, xs = LinenStack(stack, join=join, param_dtype=F), random(0, T, B, D)
    params = moved(module.init(jax.random.key(0), xs, **given)["params"]["weights"])
    run = lambda p, xs: module.apply({"params": {"weights": p}}, xs, **given).ys  # noqa: E731
    close(slopes(run, params, xs), slopes(lambda p, xs: layers(stack, p, xs, join=join, **given).ys, params, xs))


def test_a_linen_stack_is_on_the_fused_engine_and_takes_another():
    xs = random(0, T, B, D)
    module = LinenStack((lstm(H),), param_dtype=F)
    values = module.init(jax.random.key(0), xs)
    forward = lambda module: jax.jvp(lambda xs: module.apply(values, xs).ys, (xs,), (xs,))  # noqa: E731
    with pytest.raises(TypeError, match="no forward mode"):
        forward(module)
    forward(LinenStack((lstm(H),), engine=scan, chunk=2, param_dtype=F))


def test_a_linen_stack_draws_its_noise_from_the_stream_dropout():
    xs, stack = random(0, T, B, D), (zoneout(lstm(H), h=0.5, c=0.5),)
    module = LinenStack(stack, param_dtype=F)
    values = module.init(jax.random.key(0), xs)
    params = values["params"]["weights"]
    quiet = module.apply(values, xs).ys
    close(quiet, layers(stack, params, xs).ys)
    noisy = [module.apply(values, xs, rngs={"dropout": jax.random.key(seed)}).ys for seed in (1, 1, 2)]
    close(noisy[0], noisy[1])
    assert not np.allclose(noisy[0], noisy[2]) and not np.allclose(noisy[0], quiet)
    dropped = LinenStack((lstm(H),), dropout=0.5, param_dtype=F)
    assert not np.allclose(
        dropped.apply(values, xs, rngs={"dropout": jax.random.key(1)}).ys, dropped.apply(values, xs).ys
    )
    one = nn.RNN(LinenCell(stack[0], F), time_major=True).apply({"params": {"cell": {"weights": params[0]}}}, xs)
    close(one, quiet)
    other = NNXCell(stack[0], D, param_dtype=F, rngs=nnx.Rngs(0))
    other.weights.set_value(params[0])
    close(nnx.RNN(other, time_major=True)(xs), quiet)


# flax's own cells. linen.MGUCell with its reset has no twin: its gate multiplies h U_n + b_n after the product, that of
# `mgu` (the paper's form) multiplies h before it, and it keeps where ours writes. Without the reset it is `ugrnn`.


def gates(tree, letters: str, names: str, leaf: str = "kernel"):
    """Entries <letter><name> of linen side by side."""
    return jnp.concatenate([tree[f"{letters}{name}"][leaf] for name in names], axis=-1)


def lstm_params(p):
    return LSTMParams(gates(p, "i", "ifgo"), gates(p, "h", "ifgo"), gates(p, "h", "ifgo", "bias"), None)


def gru_params(p):
    return GRUParams(gates(p, "i", "rzn"), gates(p, "h", "rzn"), gates(p, "i", "rzn", "bias"), p["hn"]["bias"])


def mgu_params(p):
    return OneGateParams(gates(p, "i", "fn"), gates(p, "h", "fn"), gates(p, "i", "fn", "bias"))


def conv_params(p):
    """flax's order is i, g, f, o, and it adds 1 to f."""
    order = lambda a: jnp.concatenate([jnp.split(a, 4, axis=-1)[n] for n in (0, 2, 1, 3)], axis=-1)  # noqa: E731
    b = order(p["ih"]["bias"] + p["hh"]["bias"])
    return ConvLSTMParams(order(p["ih"]["kernel"]), order(p["hh"]["kernel"]), b.at[2:4].add(1.0), None)


TWINS = {
    "SimpleCell": (nn.SimpleCell, elman(H), lambda p: ElmanParams(p["i"]["kernel"], p["h"]["kernel"], p["i"]["bias"])),
    "LSTMCell": (nn.LSTMCell, lstm(H), lstm_params),
    "OptimizedLSTMCell": (nn.OptimizedLSTMCell, lstm(H), lstm_params),
    "GRUCell": (nn.GRUCell, gru(H), gru_params),
    "MGUCell": (lambda h, **how: nn.MGUCell(h, reset_gate=False, **how), ugrnn(H), mgu_params),
    "ConvLSTMCell": (
        lambda h, **how: nn.ConvLSTMCell(2, kernel_size=(3, 3), **how), conv_lstm(2, rows=3, columns=4), conv_params,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_our_cells_equal_linens(name):
    theirs, cell, params = TWINS[name]
    xs = random(0, T, B, *((3, 4, D) if cell.input_rank == 3 else (D,)))
    rnn = nn.RNN(theirs(H, param_dtype=F), time_major=True)
    values = moved(rnn.init(jax.random.key(0), xs))
    run = lambda p: unroll(cell, params(p["params"]["cell"]), xs).ys  # noqa: E731
    close(run(values), rnn.apply(values, xs))


def nnx_lstm_params(cell):
    get = lambda *names: jnp.concatenate([getattr(cell, n).kernel[...] for n in names], axis=-1)  # noqa: E731
    bias = jnp.concatenate([getattr(cell, n).bias[...] for n in ("hi", "hf", "hg", "ho")])
    return LSTMParams(get("ii", "if_", "ig", "io"), get("hi", "hf", "hg", "ho"), bias, None)


def nnx_dense(cell):
    return cell.dense_i.kernel[...], cell.dense_h.kernel[...]


NNX_TWINS = {
    "SimpleCell": (nnx.SimpleCell, elman(H), lambda c: ElmanParams(*nnx_dense(c), c.dense_i.bias[...])),
    "LSTMCell": (nnx.LSTMCell, lstm(H), nnx_lstm_params),
    "OptimizedLSTMCell": (
        nnx.OptimizedLSTMCell,
        lstm(H),
        lambda c: LSTMParams(*nnx_dense(c), c.dense_h.bias[...], None),
    ),
    # nnx has no bias inside the reset.
    "GRUCell": (nnx.GRUCell, gru(H), lambda c: GRUParams(*nnx_dense(c), c.dense_i.bias[...], jnp.zeros(H))),
}


@pytest.mark.parametrize("name", NNX_TWINS)
def test_our_cells_equal_nnxs(name):
    theirs, cell, params = NNX_TWINS[name]
    xs = random(0, T, B, D)
    own = theirs(D, H, dtype=F, param_dtype=F, rngs=nnx.Rngs(0))
    nnx.update(own, moved(nnx.state(own, nnx.Param)))
    close(unroll(cell, params(own), xs).ys, nnx.RNN(own, time_major=True)(xs))
