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


def ramp(first: float, last: float) -> Initializer:
    """From `first` to `last` in equal steps along the last axis; `first` where that has one entry."""

    def init(key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32) -> Float[Array, "..."]:
        return jnp.broadcast_to(jnp.linspace(first, last, shape[-1], dtype=dtype), tuple(shape))

    return init


def gates(
    initializers: Sequence[Initializer], key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32
) -> Float[Array, "..."]:
    """Gates side by side on the last axis, each of `shape` and drawn with its own initialiser and key."""
    keys = jax.random.split(key, len(initializers))
    return jnp.concatenate([init(k, shape, dtype) for init, k in zip(initializers, keys, strict=True)], axis=-1)


def gated(
    count: int, key: Key[Array, ""], dim: int, hidden: int, draw: Sequence[Initializer], dtype=jnp.float32
) -> tuple[Array, Array, Array]:
    """W [D, G], U [H, G] and b [G] of `count` gates; `draw` are their three initialisers, used gate by gate."""
    shapes = (dim, hidden), (hidden, hidden), (hidden,)
    drawn = zip(draw, jax.random.split(key, 3), shapes, strict=True)
    return tuple(gates([one] * count, k, shape, dtype) for one, k, shape in drawn)


def lean(
    biases: Float[Array, " G"],
    key: Key[Array, ""],
    hidden: int,
    by: float | int | Initializer,
    *,
    to: int | None = None,
    against: int | None = None,
) -> Float[Array, " G"]:
    """Biases of gates side by side, with `by` added to gate number `to`, the one that remembers.

    A number is added there alone. An initialiser (`chrono`, `uniform_gate`) is drawn once, and what it gives is taken
    from gate `against`, the one that writes, as both of their papers have it. Where there is no gate `to`, a number is
    taken from gate `against` too.
    """

    def moved(biases: Array, gate: int | None, amount: Array) -> Array:
        return biases if gate is None else biases.at[gate * hidden : (gate + 1) * hidden].add(amount)

    if callable(by):
        drawn = by(jax.random.fold_in(key, 1), (hidden,), biases.dtype)
        return moved(moved(biases, to, drawn), against, -drawn)
    amount = jnp.asarray(by, biases.dtype)
    return moved(biases, against, -amount) if to is None else moved(biases, to, amount)


def chrono(longest: int) -> Initializer:
    """ln U(1, longest - 1), a forget or update bias for dependencies of up to `longest` steps, T of the paper.

    Time constants 1/(1 - sigmoid(b)) are then U(2, T), of mean 1 + T/2 (Tallec & Ollivier 2018, section 2.2). The
    input gate gets the negative where the cell has one of its own. Raises ValueError where longest < 3.
    """
    if longest < 3:
        raise ValueError(f"chrono: expected longest >= 3 steps, got {longest}")

    def init(key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32) -> Float[Array, "..."]:
        return jnp.log(jax.random.uniform(key, tuple(shape), dtype, 1, longest - 1))

    return init


def uniform_gate() -> Initializer:
    """ln(u / (1 - u)), u of U(1/H, 1 - 1/H): a forget bias whose gate starts out uniform (UGI).

    The input gate gets the negative (Gu, Gulcehre, Paine, Hoffman & Pascanu 2020, section 3.1). One unit has no such
    interval, and gets 0.
    """

    def init(key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32) -> Float[Array, "..."]:
        if shape[-1] < 3:
            return jnp.zeros(tuple(shape), dtype)
        u = jax.random.uniform(key, tuple(shape), dtype, 1 / shape[-1], 1 - 1 / shape[-1])
        return jnp.log(u) - jnp.log1p(-u)

    return init


def critical(drive: float | int = 1.0) -> Initializer:
    """N(0, sigma^2 / fan_in) with the sigma at which a tanh network neither fades nor explodes: chi = 1.

    drive: variance of a unit's input, x_t W + b. Mean field (Chen, Pennington & Schoenholz 2018, equations 5 and 7):
    q = sigma^2 E tanh(sqrt(q) z)^2 + drive and chi = sigma^2 E tanh'(sqrt(q) z)^2, z of N(0, 1). At drive = 0 sigma
    is 1, at 0.3 1.58, at 1 1.86. Raises ValueError for a negative drive.
    """
    return normal(critical_scale(float(drive)))


def critical_scale(drive: float) -> float:
    """The sigma of `critical`; found by bisection for q, with expectations from 20,001 points of a grid."""
    if not 0 <= drive < math.inf:
        raise ValueError(f"critical: expected a finite drive >= 0, got {drive}")
    if drive == 0:
        return 1.0
    z = np.linspace(-8, 8, 20_001)
    density = np.exp(-(z**2) / 2)
    density /= density.sum()

    def moments(q: float) -> tuple[float, float]:
        square = np.tanh(math.sqrt(q) * z) ** 2
        return float(density @ square), float(density @ (1 - square) ** 2)

    low, high = drive, drive + 1e4 * (1 + drive)
    for _ in range(200):
        q = (low + high) / 2
        square, slope = moments(q)
        low, high = (low, q) if (q - drive) * slope > square else (q, high)
    return 1 / math.sqrt(moments(low)[1])
