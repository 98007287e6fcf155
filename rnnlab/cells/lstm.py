"""Long short-term memory."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import output
from rnnlab.cells.products import Matrix, outers, product
from rnnlab.noise import Masks, dropout
from rnnlab.types import Cell, Local, PyTree


class LSTMParams(NamedTuple):
    """Gates in the order i, f, g, o. W: input. U: recurrent. b: bias. R: projection of h, or None."""

    W: Float[Array, "D G"]
    U: Float[Array, "P G"]
    b: Float[Array, " G"]
    R: Float[Array, "H P"] | None


class LSTMCarry(NamedTuple):
    """h: output, of P units where projected and H otherwise. c: the cell's memory, of H units."""

    h: Float[Array, "*B P"]
    c: Float[Array, "*B H"]


def empty(hidden: int, width: int | None = None) -> Callable[..., LSTMCarry]:
    """The `start` of a cell with memory, of the type of its parameters' matrix U; width: of h, where it is not H."""

    def start(weights: PyTree, batch_shape: tuple[int, ...]) -> LSTMCarry:
        dtype = weights.U.dtype
        h = jnp.zeros((*batch_shape, hidden if width is None else width), dtype)
        return LSTMCarry(h=h, c=jnp.zeros((*batch_shape, hidden), dtype))

    return start


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def lstm(
    hidden: int,
    *,
    forget_bias: float | inits.Initializer = 1.0,
    projection: int | None = None,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
    projector: inits.Initializer = inits.normal(),
    hidden_dropout: float | int = 0.0,
    recurrent_dropout: float | int = 0.0,
) -> Cell:
    """LSTM with a forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000):

        i, f, g, o = split(x_t W + h_{t-1} U + b)
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
        h_t = sigmoid(o) tanh(c_t)        or, with `projection` P,  (sigmoid(o) tanh(c_t)) R
        y_t = h_t

    (projection: Sak, Senior & Beaufays 2014, equation 7). x [*B D] -> y [*B H], or [*B P].
    Defaults: orthogonal U gate by gate, normal W, biases 0 but the forget gate's, which is `bias` +
    `forget_bias`; at 1 the cell starts out remembering (Jozefowicz, Zaremba & Sutskever 2015). An initialiser
    (`chrono`, `uniform_gate`) draws it, and the input gate's bias is then lowered by as much.
    With U = W = 0, dc_T/dc_t = sigmoid(forget_bias)^(T-t).
    In training (`unroll(..., key=)`), `hidden_dropout` leaves units of h_{t-1} out of its product, the same at every
    step, and `recurrent_dropout` entries of tanh(g), anew at every step (`rnnlab.noise.dropout`).
    """
    width = hidden if projection is None else projection

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> LSTMParams:
        W, U, b, R = jax.random.split(key, 4)
        biases = inits.gates([bias] * 4, b, (hidden,), dtype)
        return LSTMParams(
            W=inits.gates([kernel] * 4, W, (dim, hidden), dtype),
            U=inits.gates([recurrent] * 4, U, (width, hidden), dtype),
            b=inits.lean(biases, b, hidden, forget_bias, to=1, against=0),
            R=None if projection is None else projector(R, (hidden, projection), dtype),
        )

    def drive(weights: LSTMParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return product(xs, weights.W)

    def step(weights: LSTMParams, carry: LSTMCarry, z: Float[Array, "*B G"], masks: Masks = Masks()) -> LSTMCarry:
        i, f, g, o = jnp.split(z + (carry.h * masks.hidden) @ weights.U + weights.b, 4, axis=-1)
        c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * (jnp.tanh(g) * masks.candidate)
        return LSTMCarry(_project(weights.R, jax.nn.sigmoid(o) * jnp.tanh(c)), c)

    cell = Cell(
        init, empty(hidden, width), drive, step, output, local=Local(_forward, _backward, _deferred, _transposed)
    )
    return dropout(cell, step, hidden=hidden_dropout, candidate=recurrent_dropout, written="c")


def _project(R: Float[Matrix, "H P"] | None, m: Float[Array, "*B H"]) -> Float[Array, "*B P"]:
    return m if R is None else m @ R


class _Factors(NamedTuple):
    """gates: d(c_t, m_t)/d(i, f, g, o), each gate with the one it acts on. through: dm_t/dc_t. f: dc_t/dc_{t-1}.
    m: sigmoid(o) tanh(c_t), which R projects, or None."""

    gates: Float[Array, "... G"]
    through: Float[Array, "... H"]
    f: Float[Array, "... H"]
    m: Float[Array, "... H"] | None


def _forward(weights: LSTMParams, carry: LSTMCarry, z: Float[Array, "*B G"]) -> tuple[LSTMCarry, _Factors]:
    # All gates at once and then split: XLA makes one fast loop of it, and slow strided ones of the other order.
    a = z + carry.h @ weights.U + weights.b
    s = jax.nn.sigmoid(a)
    (i, f, _, o), (di, df, _, do) = jnp.split(s, 4, axis=-1), jnp.split(s - s * s, 4, axis=-1)
    g = jnp.tanh(jnp.split(a, 4, axis=-1)[2])
    c = f * carry.c + i * g
    t = jnp.tanh(c)
    gates = jnp.concatenate([g * di, carry.c * df, i * (1 - g * g), t * do], axis=-1)
    m = o * t
    factors = _Factors(gates, through=o * (1 - t * t), f=f, m=None if weights.R is None else m)
    return LSTMCarry(_project(weights.R, m), c), factors


def _backward(transposed: LSTMParams, factors: _Factors, dcarry: LSTMCarry) -> tuple[LSTMCarry, tuple]:
    dm = _project(transposed.R, dcarry.h)
    dc = dcarry.c + dm * factors.through
    da = jnp.concatenate([dc, dc, dc, dm], axis=-1) * factors.gates
    return LSTMCarry(da @ transposed.U, dc * factors.f), (da, None if transposed.R is None else dcarry.h)


def _deferred(weights: LSTMParams, xs: Array, carries: LSTMCarry, factors: _Factors, kept: tuple):
    da, dh = kept
    dW, dU, db = outers(da, xs, carries.h)
    dR = None if dh is None else outers(dh, factors.m)[0]
    return LSTMParams(dW, dU, db, dR), product(da, weights.W.T)


def _transposed(weights: LSTMParams) -> LSTMParams:
    return weights._replace(U=weights.U.T, R=None if weights.R is None else weights.R.T)
