"""Vectors with an exponent of their own, so that a product of any number of steps neither under- nor overflows.

The exponent is an integer, of base 2: shifting a vector is exact, so that a scaled vector is what a float of unbounded
exponent would hold, and a logarithm is taken once, at the end. (A running sum of logarithms rounds at every step.)
"""

import math
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer

from rnnlab.probes.gradients import GradientNorms, log_norms
from rnnlab.types import PyTree
from rnnlab.wrappers import select

# The exponent of 0, below that of any product of less than 4 million steps, each as small as a float may be. Twice it
# is still an integer of 32 bits.
ZERO = -(2**29)


class Scaled(NamedTuple):
    """vector * 2^exponent, a vector over all leaves for each of the leading axes.

    vector:   leaves [..., *event], the largest entry of all of them in [1/2, 1); zeros for 0
    exponent: int32 [...]
    """

    vector: PyTree
    exponent: Integer[Array, "..."]


def scaled(vector: PyTree, exponent: Integer[Array, "..."]) -> Scaled:
    """vector * 2^exponent with the largest entry brought into [1/2, 1); inf and NaN are left as they are.

    Exact, but for entries below 1e-38 (float32) of their vector's largest, which become 0.
    """
    lead, leaves = exponent.ndim, jax.tree.leaves(vector)
    top = reduce(jnp.maximum, (_wide(jnp.max(jnp.abs(leaf), axis=range(lead, leaf.ndim))) for leaf in leaves))
    reach = min(jnp.finfo(leaf.dtype).maxexp for leaf in leaves) - 2  # of a factor that is a normal number
    shift = jnp.where(jnp.isfinite(top), jnp.clip(_exponent(top), -reach, reach), 0)
    return Scaled(shifted(vector, -shift), jnp.where(top == 0, ZERO, exponent + shift))


def unscaled(vector: PyTree, lead: int) -> Scaled:
    """Plain floats, with the first `lead` axes leading."""
    shape = jax.tree.leaves(vector)[0].shape[:lead]
    return scaled(vector, jnp.zeros(shape, jnp.int32))


def total(one: Scaled, *others: Scaled) -> Scaled:
    """The sum: all are brought to the largest exponent."""
    exponent = one.exponent
    for other in others:
        exponent = jnp.maximum(exponent, other.exponent)
    terms = [shifted(term.vector, term.exponent - exponent) for term in (one, *others)]
    return scaled(jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *terms), exponent)


def where(keep: Array | None, one: Scaled) -> Scaled:
    """0 where keep [...] is False; without one, everything is kept."""
    if keep is None:
        return one
    vector = jax.tree.map(lambda leaf: select(keep, leaf, jnp.zeros_like(leaf)), one.vector)
    return Scaled(vector, jnp.where(keep, one.exponent, ZERO))


def shifted(vector: PyTree, exponent: Integer[Array, "..."]) -> PyTree:
    """vector * 2^exponent in floats."""

    def leaf(x: Array) -> Array:
        factor = power_of_two(exponent, x.dtype)
        return x * factor.reshape(factor.shape + (1,) * (x.ndim - factor.ndim))

    return jax.tree.map(leaf, vector)


def power_of_two(exponent: Integer[Array, "..."], dtype) -> Float[Array, "..."]:
    """2^exponent, exactly (`exp2` and `power` round on some machines); 0 below the normal numbers of the type, and its
    largest power above."""
    form = jnp.finfo(dtype)
    bits = jnp.clip(exponent + (form.maxexp - 1), 0, 2 * form.maxexp - 2)
    bits = bits.astype(f"uint{form.bits}") << np.array(form.nmant, f"uint{form.bits}")
    return lax.bitcast_convert_type(bits, dtype)


def _exponent(x: Float[Array, "..."]) -> Integer[Array, "..."]:
    """Of x >= 0: e with x in [2^(e-1), 2^e), or the least there is; `jnp.frexp` takes thrice the operations."""
    form = jnp.finfo(x.dtype)
    bits = lax.bitcast_convert_type(x, f"uint{form.bits}") >> np.array(form.nmant, f"uint{form.bits}")
    return bits.astype(jnp.int32) - np.int32(form.maxexp - 2)


def log_scaled(ones: tuple[PyTree, ...]) -> GradientNorms:
    """Natural logarithms of norms, of `Scaled` carries [T, *B, *event], one a layer and direction; -inf for 0."""
    wide = [jax.tree.map(_wide, one.vector) for one in ones]  # float16 counts no exponent beyond its range
    norms = log_norms(wide, ones[0].exponent.ndim - 1)
    joint = jnp.stack([log + ln2(one.exponent, log) for log, one in zip(norms.joint, ones, strict=True)])
    parts = tuple(
        jax.tree.map(lambda log, one=one: log + ln2(one.exponent, log), part)
        for part, one in zip(norms.parts, ones, strict=True)
    )
    return GradientNorms(joint, parts)


def ln2(exponent: Integer[Array, "..."], like: Float[Array, "..."]) -> Float[Array, "..."]:
    """exponent * ln 2, in the type of `like`."""
    return exponent.astype(like.dtype) * math.log(2)


def _wide(x: Array) -> Array:
    return x.astype(np.promote_types(x.dtype, np.float32))
