"""The antisymmetric RNN: Euler steps of a flow that neither grows nor fades."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import Hidden, output, zeros
from rnnlab.cells.orthogonal import antisymmetric
from rnnlab.cells.products import product
from rnnlab.types import Cell


class AntisymmetricParams(NamedTuple):
    """W: input. U: what is above the diagonal of the recurrent matrix, row by row, S = H (H-1)/2. b: bias.

    As weights, U is the whole matrix [H, H], diffusion included.
    """

    W: Float[Array, "D H"]
    U: Float[Array, "*S"]
    b: Float[Array, " H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def antisymmetric_rnn(
    hidden: int,
    *,
    epsilon: float = 0.1,
    gamma: float = 0.1,
    activation: Callable[[Array], Array] = jnp.tanh,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.normal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """AntisymmetricRNN (Chang, Chen, Haber & Chi 2019, equation 12):

        h_t = h_{t-1} + epsilon activation(x_t W + h_{t-1} (A - gamma I) + b),   A = U - U^T,   y_t = h_t

    x [*B D] -> y [*B H]. epsilon: the step of Euler's method; gamma: diffusion, which makes up for its growth. Only U
    above the diagonal is stored, of which a given initialiser's matrix has more. Defaults: normal U and W, b = 0.
    With U = W = b = 0, dh_T/dh_t = (1 - epsilon gamma)^(T-t) at h = 0. With gamma = 0 and the identity for activation
    the largest singular value of a step's Jacobian is sqrt(1 + epsilon^2 ||A||^2).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> AntisymmetricParams:
        W, U, b = jax.random.split(key, 3)
        return AntisymmetricParams(
            W=kernel(W, (dim, hidden), dtype), U=recurrent(U, (hidden, hidden), dtype)[np.triu_indices(hidden, 1)],
            b=bias(b, (hidden,), dtype),
        )  # fmt: skip

    def prepare(params: AntisymmetricParams) -> AntisymmetricParams:
        return params._replace(U=antisymmetric(params.U, hidden) - gamma * jnp.eye(hidden, dtype=params.U.dtype))

    def drive(weights: AntisymmetricParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return product(xs, weights.W)

    def step(weights: AntisymmetricParams, carry: Hidden, z: Float[Array, "*B H"]) -> Hidden:
        return Hidden(carry.h + epsilon * activation(z + carry.h @ weights.U + weights.b))

    return Cell(init, zeros(hidden), drive, step, output, prepare)
