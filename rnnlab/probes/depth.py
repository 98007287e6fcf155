"""Depth: how a gradient changes from layer to layer."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rnnlab.probes.gradients import GradientNorms


class DepthRatios(NamedTuple):
    """Means over the batch. heat: ln norms, the T x L heat map, first layer first. ratios: ln ||delta^l|| -
    ln ||delta^{l+1}||, what one layer down adds: below 0 gradients fade with depth, above 0 they grow."""

    heat: Float[Array, "L T"]
    ratios: Float[Array, "L-1 T"]


def depth_ratios(norms: GradientNorms, keep: Bool[Array, "T ..."] | None = None) -> DepthRatios:
    """The heat map and the ratio from layer to layer, from `gradient_norms` of any stack, whatever its join.

    keep: [T, *B]; padding does not count, and where no example does there is NaN. A norm of 0 is -inf in the heat map
    and makes the ratio infinite, or NaN where both are 0. Of unidirectional layers: a bidirectional one has two rows.
    Each ratio is taken per example and then averaged: the ratio of geometric means. Cost: none beside the norms.
    Compare layers at one lag: with lags of 35 the lowest layer may have the largest gradient (row R6).
    """
    joint = norms.joint.reshape(*norms.joint.shape[:2], -1)
    ratios = joint[:-1] - joint[1:]
    if keep is None:
        return DepthRatios(joint.mean(-1), ratios.mean(-1))
    counted = keep.reshape(keep.shape[0], -1)
    mean = lambda values: jnp.nanmean(jnp.where(counted, values, jnp.nan), axis=-1)  # noqa: E731
    return DepthRatios(mean(joint), mean(ratios))
