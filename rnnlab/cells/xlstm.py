"""sLSTM and mLSTM: exponential gates with a normaliser, and memories that are a number a unit or a matrix a head.

An exponential gate overflows, so each state is held over exp(m), m the largest exponent yet. m is a scale and nothing
else: no output depends on it.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import output
from rnnlab.cells.products import product
from rnnlab.types import Cell


class SLSTMParams(NamedTuple):
    """Heads side by side (K), each with its gates i, f, g, o of H/K units. W: input. U: recurrent. b: bias."""

    W: Float[Array, "D G"]
    U: Float[Array, "K H/K 4H/K"]
    b: Float[Array, " G"]


class SLSTMCarry(NamedTuple):
    """h: output. c: memory and n: its normaliser, both over exp(m). m: the stabiliser."""

    h: Float[Array, "*B H"]
    c: Float[Array, "*B H"]
    n: Float[Array, "*B H"]
    m: Float[Array, "*B H"]


class MLSTMParams(NamedTuple):
    """W, b: of what is written, i and f (a number a head, K), k and v. V, c: of what is read, q and o."""

    W: Float[Array, "D 2K+2H"]
    b: Float[Array, " 2K+2H"]
    V: Float[Array, "D 2H"]
    c: Float[Array, " 2H"]


class MLSTMCarry(NamedTuple):
    """A head's memory C [v, k] and its normaliser n, both over exp(m). m: the stabiliser."""

    C: Float[Array, "*B K H/K H/K"]
    n: Float[Array, "*B K H/K"]
    m: Float[Array, "*B K"]


# The m of a memory that holds nothing, for minus infinity: the first step then writes it whatever its gates are.
EMPTY = -1e30


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def slstm(
    hidden: int,
    *,
    heads: int = 1,
    forget: Callable[[Array], Array] = jax.nn.log_sigmoid,
    forget_bias: float | inits.Initializer = inits.ramp(3.0, 6.0),
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """sLSTM (Beck et al. 2024, section 2.2, equations 8 to 17), in each head by itself:

        i, f, g, o = split(x_t W + h_{t-1} U + b),   m_t = max(log f + m_{t-1}, i),   log f = `forget`(f)
        c_t = exp(log f + m_{t-1} - m_t) c_{t-1} + exp(i - m_t) tanh(g)
        n_t = exp(log f + m_{t-1} - m_t) n_{t-1} + exp(i - m_t),   h_t = sigmoid(o) c_t / n_t,   y_t = h_t

    x [*B D] -> y [*B H]. exp(m_t) c_t and exp(m_t) n_t are the paper's unstabilised states. m_0 is -1e30 for minus
    infinity, as the authors' code has it in effect: n_t >= 1 from the first step on, and a floor of 1/2 under it in h_t
    acts only on carries that no sequence gives (zeros, at padding). `forget` gives log f of the gate f: the identity
    makes it exponential (then give a `forget_bias` of about 0, or nothing is ever forgotten).
    Defaults: normal W, orthogonal U gate by gate (theirs is 0, and would hide what recurrence does), biases 0 but the
    forget gate's, `bias` + `forget_bias`: 3 to 6 over a head's units, for theirs of sLSTM depends on the depth of a
    layer in its stack, and this is what they give mLSTM.
    With U = W = 0 the paper's memory, exp(m_t) c_t, fades by sigmoid(forget_bias) a step.
    Raises ValueError where the heads do not divide the units.
    """
    size = _units(hidden, heads, "slstm")

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> SLSTMParams:
        def head(key: Key[Array, ""]) -> tuple[Array, Array, Array]:
            W, U, b = inits.gated(4, key, dim, size, (kernel, recurrent, bias), dtype)
            return W, U, inits.lean(b, key, size, forget_bias, to=1)

        W, U, b = zip(*map(head, jax.random.split(key, heads)), strict=True)
        return SLSTMParams(jnp.concatenate(W, axis=-1), jnp.stack(U), jnp.concatenate(b))

    def start(weights: SLSTMParams, batch_shape: tuple[int, ...]) -> SLSTMCarry:
        zeros = jnp.zeros((*batch_shape, hidden), weights.U.dtype)
        return SLSTMCarry(zeros, zeros, zeros, jnp.full_like(zeros, EMPTY))

    def drive(weights: SLSTMParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return product(xs, weights.W)

    def step(weights: SLSTMParams, carry: SLSTMCarry, z: Float[Array, "*B G"]) -> SLSTMCarry:
        # A product a head: on a CPU, one batched product takes twice as long, and a block-diagonal one up to thrice.
        mixed = [h @ U for h, U in zip(jnp.split(carry.h, heads, axis=-1), weights.U, strict=True)]
        a = z + jnp.concatenate(mixed, axis=-1) + weights.b
        by_gate = jnp.split(a.reshape(*a.shape[:-1], heads, 4 * size), 4, axis=-1)
        i, f, g, o = (gate.reshape(carry.h.shape) for gate in by_gate)
        kept = forget(f) + carry.m
        m = jnp.maximum(kept, i)
        keep, write = jnp.exp(kept - m), jnp.exp(i - m)
        c, n = keep * carry.c + write * jnp.tanh(g), keep * carry.n + write
        return SLSTMCarry(jax.nn.sigmoid(o) * c / jnp.maximum(n, 0.5), c, n, m)

    return Cell(init, start, drive, step, output)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def mlstm(
    hidden: int,
    *,
    heads: int = 1,
    forget: Callable[[Array], Array] = jax.nn.log_sigmoid,
    forget_bias: float | inits.Initializer = inits.ramp(3.0, 6.0),
    gate: inits.Initializer = inits.constant(),
    kernel: inits.Initializer = inits.normal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """mLSTM (Beck et al. 2024, section 2.3, equations 19 to 27, stabilised as in the appendix), each head of d units:

        i, f, k, v = split(x_t W + b),   q, o = split(x_t V + c),   m_t = max(log f + m_{t-1}, i),   log f = `forget`(f)
        C_t = exp(log f + m_{t-1} - m_t) C_{t-1} + exp(i - m_t) v k^T / sqrt(d)
        n_t = exp(log f + m_{t-1} - m_t) n_{t-1} + exp(i - m_t) k / sqrt(d)
        y_t = sigmoid(o) C_t q / max(|n_t^T q|, exp(-m_t))

    x [*B D] -> y [*B H]. No gate sees the state. exp(m_t) C_t and exp(m_t) n_t are the paper's unstabilised states,
    with a 1 in the max. The step is affine in those, but not in what is held (m is in an exp and a max), so that
    `affine` is None. exp(-m_t) is kept between e^-14, near the 1e-6 that the authors' code adds to the denominator, so
    that q = 0 divides by no 0, and e^80, which float32 still has. sqrt(d) divides the bias of k too, as in their code.
    A row keeps H d floats a step, for the outputs are read off all of them at once: more heads, less memory.
    Defaults: normal matrices, but those of i and f are 0 and f's bias is `bias` + `forget_bias`, 3 to 6 over the heads,
    as in the authors' code; the other biases are 0, where theirs of i is N(0, 0.01).
    With W = V = 0, dC_T/dC_t = f^(T-t), sigmoid(3) for a single head.
    Raises ValueError where the heads do not divide the units.
    """
    size = _units(hidden, heads, "mlstm")

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> MLSTMParams:
        pair = lambda draw, key, *shape: inits.gates([draw] * 2, key, shape, dtype)  # noqa: E731
        keys = jax.random.split(key, 6)
        W = pair(gate, keys[0], dim, heads), pair(kernel, keys[1], dim, hidden)
        b = jnp.concatenate([pair(bias, keys[2], heads), pair(bias, keys[3], hidden)])
        return MLSTMParams(
            W=jnp.concatenate(W, axis=-1), b=inits.lean(b, keys[2], heads, forget_bias, to=1),
            V=pair(kernel, keys[4], dim, hidden), c=pair(bias, keys[5], hidden),
        )  # fmt: skip

    def start(weights: MLSTMParams, batch_shape: tuple[int, ...]) -> MLSTMCarry:
        shapes = (heads, size, size), (heads, size), (heads,)
        return MLSTMCarry(*(jnp.zeros((*batch_shape, *shape), weights.W.dtype) for shape in shapes))

    def by_head(units: Float[Array, "*B H"]) -> Float[Array, "*B K H/K"]:
        return units.reshape(*units.shape[:-1], heads, size)

    def drive(weights: MLSTMParams, xs: Float[Array, "*B D"]) -> tuple[Array, Array, Array, Array]:
        a = product(xs, weights.W) + weights.b
        i, f, k, v = jnp.split(a, (heads, 2 * heads, 2 * heads + hidden), axis=-1)
        return i, forget(f), by_head(k) / math.sqrt(size), by_head(v)

    def step(weights: MLSTMParams, carry: MLSTMCarry, z: tuple[Array, Array, Array, Array]) -> MLSTMCarry:
        i, log_f, k, v = z
        kept = log_f + carry.m
        m = jnp.maximum(kept, i)
        keep, written = jnp.exp(kept - m)[..., None], jnp.exp(i - m)[..., None] * k
        # An einsum here and in `read`: the gradient of a product by broadcasting takes a CPU twice as long and more.
        C = keep[..., None] * carry.C + jnp.einsum("...v,...k->...vk", v, written)
        return MLSTMCarry(C, keep * carry.n + written, m)

    def read(weights: MLSTMParams, carry: MLSTMCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        q, o = jnp.split(product(xs, weights.V) + weights.c, 2, axis=-1)
        q = by_head(q)
        found, met = jnp.einsum("...vk,...k->...v", carry.C, q), jnp.abs((carry.n * q).sum(-1))
        ratio = found / jnp.maximum(met, jnp.exp(-jnp.clip(carry.m, -80, 14)))[..., None]
        return jax.nn.sigmoid(o) * ratio.reshape(o.shape)

    return Cell(init, start, drive, step, read)


def _units(hidden: int, heads: int, name: str) -> int:
    """Units of one head."""
    if heads < 1 or hidden % heads:
        raise ValueError(f"{name}: expected a number of heads that divides the {hidden} units, got {heads}")
    return hidden // heads
