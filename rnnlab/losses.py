"""What a model's loss hands to a training step: each example's own loss, and what is looked at beside it."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rnnlab.types import PyTree


class Losses(NamedTuple):
    """Of the rows of one batch; `rnnlab.train.step` minimises sum(each) / sum(count), both over the global batch.

    each:    [B] each example's own loss, summed over its steps; 0 for an empty row
    count:   [B] what the mean is taken over: the steps scored, for a mean over steps; 1 for a mean over rows
             (`per_row`); 0 for an empty row
    carry:   each layer's last carries, leaves [B, ...], which truncated BPTT hands to the next chunk; () without
    carries: each layer's carries, leaves [T, B, ...], or None; only looked at to name where a value is not finite.
             They are kept to the end of the pass: hand out none where `chunk` is to save that memory
    keep:    [T, B] which steps count in the mean of gradient norms, the padding not; None where all do
    aux:     what else is to be averaged as the loss is, each [B]: the number of right answers, say
    """

    each: Float[Array, " B"]
    count: Float[Array, " B"]
    carry: PyTree = ()
    carries: PyTree = None
    keep: Bool[Array, "T B"] | None = None
    aux: dict[str, Float[Array, " B"]] = {}  # noqa: RUF012 (a constant, as every value of a tuple)


def per_row(loss: Callable[..., Losses]) -> Callable[..., Losses]:
    """The loss whose mean is over the rows that count, and not over their steps."""

    def of_rows(*args: PyTree) -> Losses:
        found = loss(*args)
        return found._replace(count=(found.count > 0).astype(jnp.result_type(found.count)))

    return of_rows
