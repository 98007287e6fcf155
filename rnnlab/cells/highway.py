"""Recurrent highway network: several transitions a step."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import Hidden, output, zeros
from rnnlab.cells.products import product
from rnnlab.types import Cell


class HighwayParams(NamedTuple):
    """Candidate h, then transform gate t. W: input, of the first transition. U: recurrent. b: bias, of each of the N
    transitions."""

    W: Float[Array, "D G"]
    U: Float[Array, "N H G"]
    b: Float[Array, "N G"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def rhn(
    hidden: int,
    *,
    depth: int = 2,
    transform_bias: float | int = -2.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Recurrent highway network, `depth` transitions a step, coupled carry gate (Zilly et al. 2017, equations 6 to 9):

        s_0 = h_{t-1};   n, g = split(s_{l-1} U_l + b_l + (x_t W where l = 1))
        s_l = sigmoid(g) * tanh(n) + (1 - sigmoid(g)) * s_{l-1};   h_t = s_depth,   y_t = h_t

    x [*B D] -> y [*B H]. Defaults: orthogonal U gate by gate, normal W, biases 0 but the transform gates', which is
    `bias` + `transform_bias`. With U = W = 0, dh_T/dh_t = sigmoid(-transform_bias)^(depth (T-t)).
    Raises ValueError where depth < 1.
    """
    if depth < 1:
        raise ValueError(f"rhn: expected depth >= 1, got {depth}")

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> HighwayParams:
        W, U, b = jax.random.split(key, 3)
        U = [inits.gates([recurrent] * 2, k, (hidden, hidden), dtype) for k in jax.random.split(U, depth)]
        b = [inits.gates([bias] * 2, k, (hidden,), dtype) for k in jax.random.split(b, depth)]
        return HighwayParams(
            W=inits.gates([kernel] * 2, W, (dim, hidden), dtype), U=jnp.stack(U),
            b=jnp.stack([inits.lean(one, key, hidden, transform_bias, to=1) for one in b]),
        )  # fmt: skip

    def drive(weights: HighwayParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return product(xs, weights.W)

    def step(weights: HighwayParams, carry: Hidden, z: Float[Array, "*B G"]) -> Hidden:
        s = carry.h
        for n in range(depth):
            a = s @ weights.U[n] + weights.b[n]
            candidate, transform = jnp.split(a + z if n == 0 else a, 2, axis=-1)
            gate = jax.nn.sigmoid(transform)
            s = gate * jnp.tanh(candidate) + (1 - gate) * s
        return Hidden(s)

    return Cell(init, zeros(hidden), drive, step, output)
