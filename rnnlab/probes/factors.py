"""The product that a gradient is in a network of one unit: d_1 d_2 ... d_n, factor by factor."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

from rnnlab.probes.log_adjoint import record
from rnnlab.probes.scaled import Scaled, ln2, scaled, unscaled
from rnnlab.types import Cell, PyTree


class Factors(NamedTuple):
    """d: d_t = ds_t/ds_{t-1} [T, *B]; 1 at padding, where the state is held, 0 where a new sequence begins.

    log, sign: of d_t d_{t+1} ... d_T, for every t [T, *B]: ln |ds_T/ds_{t-1}|, -inf for 0, and -1, 0 or 1. The first
    entry is the whole product, ds_T/ds_0.
    """

    d: Float[Array, "T ..."]
    log: Float[Array, "T ..."]
    sign: Float[Array, "T ..."]


def scalar_factors(cell: Cell, params: PyTree, xs: Shaped[Array | np.ndarray, "T ..."], **how: PyTree) -> Factors:
    """The factors of a cell whose carry is one number, xs [T, *B, D].

    For h_t = tanh(w x_t + u h_{t-1} + b), d_t = u (1 - h_t^2): one factor of the weight and one of the slope, of which
    neither may be above 1 for long, or all gradients explode, or below, or they vanish (Hochreiter 1991; Bengio, Simard
    & Frasconi 1994). The product keeps sign and exponent apart and neither under- nor overflows, whatever T is.
    how: start, keep, lengths, resets, reverse, engine, as `unroll` takes them; in reverse, steps are counted from the
    last one, and the whole product is the last entry.

    Cost: a forward pass and its derivative in one direction, all steps at once; T multiplications. For more
    units than one the factors are matrices: `step_jacobians` and `product_singular_values`.

    Raises ValueError for a carry of more than one number.
    """
    start = how.pop("start", None)
    found = record((cell,), (params,), xs, start=None if start is None else (start,), **how)
    [one] = found.layers[0].passes
    shapes = [leaf.shape[found.lead :] for leaf in jax.tree.leaves(one.before)]
    if len(shapes) != 1 or jnp.zeros(shapes[0]).size != 1:
        raise ValueError(f"scalar_factors: expected a carry of one number, got one of the event shapes {shapes}")
    z = one.cell.drive(one.weights, found.layers[0].xs), one.flags
    ones = jax.tree.map(jnp.ones_like, one.before)
    _, slopes = jax.jvp(lambda carry: one.step(one.weights, carry, z), (one.before,), (ones,))
    d = jax.tree.leaves(slopes)[0].reshape(found.ys.shape[: found.lead])
    empty = unscaled(jnp.ones_like(d[0]), d.ndim - 1)
    _, product = lax.scan(_times, empty, unscaled(d, d.ndim), reverse=not one.back)
    log = jnp.log(jnp.abs(product.vector))
    return Factors(d, log + ln2(product.exponent, log), jnp.sign(product.vector))


def _times(product: Scaled, d: Scaled) -> tuple[Scaled, Scaled]:
    product = scaled(product.vector * d.vector, product.exponent + d.exponent)
    return product, product
