"""The unitary evolution RNN: a complex state that no step lengthens or shortens."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.complex import Complex
from rnnlab.cells.products import Matrix, product
from rnnlab.types import Cell


class UnitaryParams(NamedTuple):
    """Complex numbers are [real part, imaginary part]. W: input. V: output, G = 2H.

    angles: of the three diagonals. reflections: vectors of the two. b: bias of modReLU. h: first state.
    """

    angles: Float[Array, "3 H"]
    reflections: Float[Array, "2 2 H"]
    W: Float[Array, "D G"]
    b: Float[Array, " H"]
    h: Float[Array, "2 H"]
    V: Float[Array, "G H"]


class UnitaryWeights(NamedTuple):
    """U: the unitary matrix as a real one, of [real part, imaginary part]. The others: as in the parameters."""

    U: Float[Array, "G G"]
    W: Float[Array, "D G"]
    b: Float[Array, " H"]
    h: Float[Array, "2 H"]
    V: Float[Array, "G H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def unitary_rnn(
    hidden: int,
    *,
    permutation_seed: int = 0,
    kernel: inits.Initializer = inits.normal(),
    readout: inits.Initializer = inits.normal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Unitary evolution RNN (Arjovsky, Shah & Bengio 2016, equations 6, 8 and 9):

        z_t = x_t W + h_{t-1} U,   h_t = z_t relu(|z_t| + b) / |z_t|,   y_t = [Re h_t, Im h_t] V
        U^T = D3 R2 F^-1 D2 P R1 F D1

    x [*B D] -> y [*B H]; h is complex, h_0 is learned. D = diag(e^{i angles}), R = I - 2 v v* / |v|^2 with v of
    `reflections`, F the Fourier transform, P a fixed permutation, drawn with `permutation_seed`. U is made once a
    sequence: a step is then one real product [2H, 2H], where the paper's takes H log H operations and seven rounds.
    Defaults, as in the paper but for W and V, which are normal: angles of U(-pi, pi), v of U(-1, 1), b = 0, h_0 uniform
    with E |h_0|^2 = 1. y has no bias.
    Where |z| + b >= 0 and b = 0 (at the start), every singular value of dh_T/dh_t is 1.
    """
    shuffled = np.random.default_rng(permutation_seed).permutation(hidden)

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> UnitaryParams:
        angles, reflections, W, b, h, V = jax.random.split(key, 6)
        length = (3 / (2 * hidden)) ** 0.5
        return UnitaryParams(
            angles=jax.random.uniform(angles, (3, hidden), dtype, -np.pi, np.pi),
            reflections=jax.random.uniform(reflections, (2, 2, hidden), dtype, -1, 1),
            W=kernel(W, (dim, 2 * hidden), dtype), b=bias(b, (hidden,), dtype),
            h=jax.random.uniform(h, (2, hidden), dtype, -length, length), V=readout(V, (2 * hidden, hidden), dtype),
        )  # fmt: skip

    def prepare(params: UnitaryParams) -> UnitaryWeights:
        wide = np.promote_types(params.W.dtype, np.float32)
        with jax.default_matmul_precision("highest"):
            U = factors(jnp.asarray(params.angles, wide), jnp.asarray(params.reflections, wide))
        real = jnp.block([[U.real, U.imag], [-U.imag, U.real]]).astype(params.W.dtype)
        return UnitaryWeights(real, params.W, params.b, params.h, params.V)

    def factors(angles: Float[Array, "3 H"], reflections: Float[Array, "2 2 H"]) -> Array:
        """The rows are what becomes of the unit vectors."""
        d1, d2, d3 = lax.complex(jnp.cos(angles), jnp.sin(angles))
        r1, r2 = (lax.complex(*v) for v in reflections)
        rows = reflected(jnp.fft.fft(jnp.diag(d1)), r1)[:, shuffled]
        return reflected(jnp.fft.ifft(rows * d2), r2) * d3

    def start(weights: UnitaryWeights, batch_shape: tuple[int, ...]) -> Complex:
        re, im = weights.h
        return Complex(*(jnp.broadcast_to(part, (*batch_shape, hidden)) for part in (re, im)))

    return Cell(init, start, _drive, _step, _read, prepare)


def reflected(rows: Array, v: Array) -> Array:
    """Each row r as r - 2 v <v, r> / <v, v>."""
    square = (v.real**2 + v.imag**2).sum()
    overlap = 2 * (rows @ v.conj()) / lax.complex(square, jnp.zeros_like(square))
    return rows - overlap[:, None] * v


def mod_relu(re: Float[Array, "*B H"], im: Float[Array, "*B H"], b: Float[Matrix, " H"]) -> Complex:
    """z relu(|z| + b) / |z|, with a finite gradient at z = 0, where |z| has none: it is 1 + b there, 0 where b < 0."""
    square = re * re + im * im
    size = jnp.sqrt(jnp.where(square > 0, square, jnp.ones_like(square)))
    active = jnp.where(square > 0, size, jnp.zeros_like(size)) + b >= 0
    scale = jnp.where(active, 1 + b / size, jnp.zeros_like(size))
    return Complex(scale * re, scale * im)


def _drive(weights: UnitaryWeights, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
    return product(xs, weights.W)


def _step(weights: UnitaryWeights, carry: Complex, z: Float[Array, "*B G"]) -> Complex:
    re, im = jnp.split(z + jnp.concatenate(carry, axis=-1) @ weights.U, 2, axis=-1)
    return mod_relu(re, im, weights.b)


def _read(weights: UnitaryWeights, carry: Complex, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
    return product(jnp.concatenate(carry, axis=-1), weights.V)
