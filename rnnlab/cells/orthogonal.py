"""Cells whose recurrent matrix is orthogonal by construction: scoRNN and expRNN."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import Hidden, output, zeros
from rnnlab.cells.products import Matrix, product
from rnnlab.types import Cell


class OrthogonalParams(NamedTuple):
    """A: what is above the diagonal of a skew-symmetric matrix, row by row, S = H (H-1)/2. W: input. b: bias."""

    A: Float[Array, " S"]
    W: Float[Array, "D H"]
    b: Float[Array, " H"]


class OrthogonalWeights(NamedTuple):
    """U: the orthogonal matrix that A stands for. W, b: as in the parameters."""

    U: Float[Array, "H H"]
    W: Float[Array, "D H"]
    b: Float[Array, " H"]


def cayley() -> inits.Initializer:
    """Blocks of 2x2 with s = sqrt((1 - cos t) / (1 + cos t)) = tan(t/2), t of U(0, pi/2) (Helfrich et al. 2018,
    section 3.2): the Cayley transform turns by t in each plane."""
    return _blocks(lambda key, shape, dtype: jnp.tan(jax.random.uniform(key, shape, dtype, 0, np.pi / 4)))


def henaff() -> inits.Initializer:
    """Blocks of 2x2 with angles of U(-pi, pi) (Henaff, Szlam & LeCun 2016): the exponential turns by them."""
    return _blocks(lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -np.pi, np.pi))


def _blocks(draw: inits.Initializer) -> inits.Initializer:
    """A matrix [H, H] whose entries (0, 1), (2, 3) and so on are drawn, and the others 0."""

    def init(key: Key[Array, ""], shape: Sequence[int], dtype=jnp.float32) -> Float[Array, "H H"]:
        first = 2 * np.arange(shape[0] // 2)
        return jnp.zeros(tuple(shape), dtype).at[first, first + 1].set(draw(key, first.shape, dtype))

    return init


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def sco_rnn(
    hidden: int,
    *,
    negative: int | None = None,
    kernel: inits.Initializer = inits.normal(),
    skew: inits.Initializer = cayley(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Scaled Cayley orthogonal RNN (Helfrich, Willmott & Ye 2018, equation 3 and section 3):

        h_t = modReLU(x_t W + h_{t-1} Q, b),   Q = (I + A)^-1 (I - A) D,   y_t = h_t

    x [*B D] -> y [*B H]. A is skew-symmetric; D is diagonal, -1 for the first `negative` units (default: half of them,
    rounded down; the paper tunes it) and 1 for the others. Every orthogonal Q has such a form for some D.
    Defaults: `cayley` A, of which a given initialiser's upper triangle is taken; normal W; b = 0, with which the
    network starts out linear (the paper draws b of U(-0.01, 0.01)).
    Where |z| + b >= 0 in all units, J_t = Q^T, and every singular value of dh_T/dh_t is 1.
    Raises ValueError unless 0 <= negative <= hidden.
    """
    minus = hidden // 2 if negative is None else negative
    if not 0 <= minus <= hidden:
        raise ValueError(f"sco_rnn: expected 0 <= negative <= hidden, {hidden}, got {negative}")
    signs = np.where(np.arange(hidden) < minus, -1, 1)

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> OrthogonalParams:
        return _drawn(key, dim, hidden, (kernel, skew, bias), dtype)

    def transform(A: Float[Array, "H H"]) -> Float[Array, "H H"]:
        one = jnp.eye(hidden, dtype=A.dtype)
        return jnp.linalg.solve(one + A, one - A) * signs.astype(A.dtype)

    return Cell(init, zeros(hidden), _drive, _step, output, partial(_made, transform=transform))


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def exp_rnn(
    hidden: int,
    *,
    kernel: inits.Initializer = inits.normal(),
    skew: inits.Initializer = henaff(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Orthogonal RNN by the matrix exponential (Lezcano-Casado & Martinez-Rubio 2019, sections 3 and 4.3):

        h_t = modReLU(x_t W + h_{t-1} Q, b),   Q = exp(A - A^T),   A above the diagonal only,   y_t = h_t

    x [*B D] -> y [*B H]; Q is a rotation, and every rotation has such a form. Defaults: `henaff` A (the paper also
    has `cayley`), of which a given initialiser's upper triangle is taken; normal W; b = 0, with which the network
    starts out linear. The gradient is `sco_rnn`'s.
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> OrthogonalParams:
        return _drawn(key, dim, hidden, (kernel, skew, bias), dtype)

    return Cell(init, zeros(hidden), _drive, _step, output, partial(_made, transform=jax.scipy.linalg.expm))


def _drawn(key: Key[Array, ""], dim: int, hidden: int, draw: Sequence[inits.Initializer], dtype) -> OrthogonalParams:
    kernel, skew, bias = draw
    A, W, b = jax.random.split(key, 3)
    return OrthogonalParams(
        A=skew(A, (hidden, hidden), dtype)[np.triu_indices(hidden, 1)],
        W=kernel(W, (dim, hidden), dtype), b=bias(b, (hidden,), dtype),
    )  # fmt: skip


def _made(params: OrthogonalParams, transform: Callable[[Array], Array]) -> OrthogonalWeights:
    with jax.default_matmul_precision("highest"):
        A = antisymmetric(params.A.astype(np.promote_types(params.A.dtype, np.float32)), len(params.b))
        U = polished(transform(A))
    return OrthogonalWeights(U.astype(params.W.dtype), params.W, params.b)


def antisymmetric(above: Float[Matrix, " S"], hidden: int) -> Float[Array, "H H"]:
    """The skew-symmetric matrix of which this is above the diagonal, row by row."""
    A = jnp.zeros((hidden, hidden), above.dtype).at[np.triu_indices(hidden, 1)].set(above)
    return A - A.T


def polished(Q: Float[Array, "H H"]) -> Float[Array, "H H"]:
    """A step of Newton and Schulz towards the nearest orthogonal matrix: an error of 1e-4 becomes one of 1e-8.

    Long training makes A large, and float32 then leaves the exponential that far from orthogonal.
    """
    return 1.5 * Q - 0.5 * Q @ (Q.T @ Q)


def mod_relu(z: Float[Array, "*B H"], b: Float[Matrix, " H"]) -> Float[Array, "*B H"]:
    """sign(z) relu(|z| + b) (Helfrich et al. 2018, section 3.3), with slope 1 at z = 0 too where b >= 0."""
    return jnp.where(jnp.abs(z) + b >= 0, z + b * jnp.sign(z), jnp.zeros_like(z))


def _drive(weights: OrthogonalWeights, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
    return product(xs, weights.W)


def _step(weights: OrthogonalWeights, carry: Hidden, z: Float[Array, "*B H"]) -> Hidden:
    return Hidden(mod_relu(z + carry.h @ weights.U, weights.b))
