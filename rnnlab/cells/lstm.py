"""Long short-term memory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.types import Cell


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


def lstm(
    hidden: int,
    *,
    forget_bias: float = 1.0,
    projection: int | None = None,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
    projector: inits.Initializer = inits.normal(),
) -> Cell:
    """LSTM with a forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000):

        i, f, g, o = split(x_t W + h_{t-1} U + b)
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
        h_t = sigmoid(o) tanh(c_t)        or, with `projection` P,  (sigmoid(o) tanh(c_t)) R
        y_t = h_t

    (projection: Sak, Senior & Beaufays 2014, equation 7). x [*B D] -> y [*B H], or [*B P].
    Defaults: orthogonal U gate by gate, normal W, biases 0 but the forget gate's, which is `bias` +
    `forget_bias`; at 1 the cell starts out remembering (Jozefowicz, Zaremba & Sutskever 2015).
    With U = W = 0, dc_T/dc_t = sigmoid(forget_bias)^(T-t).
    """
    width = hidden if projection is None else projection

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> LSTMParams:
        W, U, b, R = jax.random.split(key, 4)
        biases = inits.gates([bias] * 4, b, (hidden,), dtype)
        return LSTMParams(
            W=inits.gates([kernel] * 4, W, (dim, hidden), dtype),
            U=inits.gates([recurrent] * 4, U, (width, hidden), dtype),
            b=biases.at[hidden : 2 * hidden].add(jnp.asarray(forget_bias, dtype)),
            R=None if projection is None else projector(R, (hidden, projection), dtype),
        )

    def start(weights: LSTMParams, batch_shape: tuple[int, ...]) -> LSTMCarry:
        dtype = weights.U.dtype
        return LSTMCarry(h=jnp.zeros((*batch_shape, width), dtype), c=jnp.zeros((*batch_shape, hidden), dtype))

    def drive(weights: LSTMParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return xs @ weights.W + weights.b

    def step(weights: LSTMParams, carry: LSTMCarry, z: Float[Array, "*B G"]) -> LSTMCarry:
        i, f, g, o = jnp.split(z + carry.h @ weights.U, 4, axis=-1)
        c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMCarry(h=h if weights.R is None else h @ weights.R, c=c)

    def read(weights: LSTMParams, carry: LSTMCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B P"]:
        return carry.h

    return Cell(init, start, drive, step, read)
