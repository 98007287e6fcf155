"""Initialisers of weights, as arguments of the cells: `initializer(key, shape, dtype) -> array`.

Matrices are `[fan_in, fan_out]`, one gate at a time: `gates` puts gates side by side, so that a
recurrent matrix of four gates is four orthogonal blocks and not one orthogonal slab.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

Initializer = Callable[..., Array]


def orthogonal(scale: float = 1.0) -> Initializer:
    """scale * Q, Q uniform over the orthogonal group (Saxe, McClelland & Ganguli 2014, section 3).

    Drawn in float32 at least, as the QR decomposition needs, and cast afterwards; every singular
    value of a square matrix is `scale`.
    """
    draw = jax.nn.initializers.orthogonal(scale)

    def init(key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32) -> Float[Array, "..."]:
        return draw(key, shape, np.promote_types(dtype, np.float32)).astype(dtype)

    return init


def uniform(scale: float = 1.0) -> Initializer:
    """U(-scale/sqrt(H), +scale/sqrt(H)) with H the last axis: PyTorch's rule for RNN, LSTM and GRU.

    PyTorch uses it for the recurrent matrix, the input matrix and the biases alike, all with the
    number of hidden units H, which is the last axis of each gate (torch.nn.RNN, "Variables").
    """

    def init(key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32) -> Float[Array, "..."]:
        bound = scale / math.sqrt(shape[-1])
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return init


def identity(scale: float = 1.0) -> Initializer:
    """scale * I, zero-padded where not square (IRNN: Le, Jaitly & Hinton 2015, section 2)."""

    def init(key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32) -> Float[Array, "..."]:
        return jnp.asarray(scale, dtype) * jnp.eye(*shape, dtype=dtype)

    return init


def normal(scale: float = 1.0) -> Initializer:
    """N(0, scale^2 / fan_in) with fan_in the first axis (LeCun et al. 1998, equation 16; mean field's sigma_w)."""

    def init(key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32) -> Float[Array, "..."]:
        return jnp.asarray(scale / math.sqrt(shape[0]), dtype) * jax.random.normal(key, tuple(shape), dtype)

    return init


def constant(value: float = 0.0) -> Initializer:
    """Every entry `value`; the default of a bias, at 0."""

    def init(key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32) -> Float[Array, "..."]:
        return jnp.full(tuple(shape), value, dtype)

    return init


def gates(
    initializers: Sequence[Initializer], key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32
) -> Float[Array, "..."]:
    """Gates side by side on the last axis, each of `shape` and drawn with its own initialiser and key."""
    keys = jax.random.split(key, len(initializers))
    return jnp.concatenate([init(k, shape, dtype) for init, k in zip(initializers, keys, strict=True)], axis=-1)


INITIALIZERS = {"orthogonal": orthogonal, "uniform": uniform, "identity": identity, "normal": normal}
