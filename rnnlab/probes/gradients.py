"""The exact norm of dL/dcarry_t, at every layer, timestep and example, from the one backward pass.

A zero is added to every new carry (a tap); the gradient with respect to it is the total derivative of
the loss with respect to that carry. L is each example's own loss, so no norm depends on the batch size.

Taps are floats: a norm below about 1e-38 (float32) is 0 and its logarithm -inf, never a silent number.
Cost: 2 to 3 % over the plain gradient, and the memory of one more set of carries.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from rnnlab.layers import layers, zero_taps
from rnnlab.types import Cell, Directions, PyTree


class GradientNorms(NamedTuple):
    """Natural logarithms of Euclidean norms over the event axes; -inf where the gradient is 0.

    joint: [L, T, *B], over the whole carry (h and c together). A bidirectional layer counts as two,
           forward first: index 2 l and 2 l + 1 where all layers are.
    parts: the same for each leaf of the carry: a tuple, one carry a layer, its leaves [T, *B];
           `parts[2].c` is ln ||dL/dc_t|| of the third layer of an LSTM.
    """

    joint: Float[Array, "L T ..."]
    parts: tuple[PyTree, ...]


class Measured(NamedTuple):
    """losses: each example's own [*B]. grads: of their mean, as the parameters. norms: as above.
    aux: what the loss returned beside its losses, or None."""

    losses: Float[Array, "..."]
    grads: PyTree
    norms: GradientNorms
    aux: PyTree


class Summary(NamedTuple):
    """Of log-norms over a batch: mean, and the quantiles 10 %, 50 % and 90 %."""

    mean: Float[Array, "..."]
    low: Float[Array, "..."]
    median: Float[Array, "..."]
    high: Float[Array, "..."]


def gradient_norms(
    cells: Cell | Directions | Sequence[Cell | Directions],
    params: PyTree,
    xs: Shaped[Array, "T ..."],
    loss: Callable[[Array], Array],
    **how: PyTree,
) -> GradientNorms:
    """Norms for any cell or stack of cells and any loss, in one call.

    loss: outputs [T, *B, H] -> each example's own loss [*B] (a sum over its steps, or the last step's).
    how:  start, keep, lengths, join, reverse, engine, chunk, as `rnnlab.unroll.layers` takes them
          (one cell is a stack of one).

    Use `value_and_grad` where a model stands around the stack, or in a training step.
    """
    stack, stack_params = (cells, params)
    if isinstance(cells, Cell | Directions):
        stack, stack_params = (cells,), (params,)

    def losses(params: PyTree, taps: PyTree) -> Array:
        found = loss(layers(stack, params, xs, taps=taps, **how).ys)
        if found.shape != batch_shape:
            raise ValueError(
                f"gradient_norms: expected each example's own loss, of shape {batch_shape}, got shape {found.shape}"
            )
        return found

    one = stack[0].forward if isinstance(stack[0], Directions) else stack[0]
    batch_shape = xs.shape[1 : xs.ndim - one.input_rank]
    taps = zero_taps(stack, stack_params, xs.shape[0], batch_shape)
    pulled = jax.grad(lambda taps: losses(stack_params, taps).sum())(taps)
    return log_norms(pulled, len(batch_shape))


def value_and_grad(loss: Callable, *, has_aux: bool = False) -> Callable[..., Measured]:
    """Losses, parameter gradients and gradient norms in the same backward pass.

    loss: (params, taps, *args) -> each example's own losses [*B] (or (losses, aux) with has_aux); it hands
          the taps to `layers`. The function returned takes the same arguments; `taps` are from `zero_taps`.
    """

    def measured(params: PyTree, taps: PyTree, *args) -> Measured:
        def total(params: PyTree, taps: PyTree):
            losses, aux = loss(params, taps, *args) if has_aux else (loss(params, taps, *args), None)
            return losses.sum(), (losses, aux)

        (_, (losses, aux)), (grads, pulled) = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(params, taps)
        grads = jax.tree.map(lambda g: g / losses.size, grads)
        return Measured(losses, grads, log_norms(pulled, losses.ndim), aux)

    return measured


def log_norms(gradients: Sequence[PyTree], batch_rank: int) -> GradientNorms:
    """Log-norms of gradients shaped as the taps of `layers`: leaves [T, *B, *event], *B of `batch_rank` axes."""
    carries = [
        carry for one in gradients for carry in (one if isinstance(one, Directions) else (one,))
    ]  # every direction of every layer
    parts = tuple(jax.tree.map(lambda g: log_norm(g, 1 + batch_rank), carry) for carry in carries)
    joint = jnp.stack([_joined(jax.tree.leaves(part)) for part in parts])
    return GradientNorms(joint, parts)


def log_norm(x: Float[Array, "..."], lead: int) -> Float[Array, "..."]:
    """ln ||x|| over all axes after the first `lead`, with no underflow in between; -inf for zeros.

    Divides by the largest entry before squaring: squares of floats below 1e-19 are 0 in float32.
    """
    flat = x.reshape(*x.shape[:lead], -1)
    if flat.dtype == jnp.bfloat16:
        flat = flat.astype(jnp.float32)  # a sum over units of bfloat16 squares loses all but two digits
    top = jnp.max(jnp.abs(flat), axis=-1)
    safe = jnp.where((top > 0) & (top < jnp.inf), divisor(top), 1)
    squares = jnp.sum((flat / safe[..., None]) ** 2, axis=-1)
    positive = top > 0
    return jnp.where(positive, jnp.log(safe) + jnp.log(jnp.where(positive, squares, 1)) / 2, jnp.log(top))


def divisor(top: Float[Array, "..."]) -> Float[Array, "..."]:
    """What to divide by before squaring, where the largest entry is `top`: that, but within 7 bits of the format's end.

    XLA multiplies by a reciprocal instead, and that of a float32 beyond 8.5e37 is 0.
    """
    return jnp.minimum(top, jnp.finfo(top.dtype).max / 128)


def summarise(norms: Float[Array, "..."], keep: Bool[Array, "..."] | None = None, *, axis: int = -1) -> Summary:
    """Mean and quantiles of log-norms over the batch axis; where keep is False (padding) it does not count.

    Where no example counts, NaN: there is nothing to summarise.
    """
    counted = norms if keep is None else jnp.where(keep, norms, jnp.nan)
    low, median, high = (jnp.nanquantile(counted, q, axis=axis, method="nearest") for q in (0.1, 0.5, 0.9))
    return Summary(jnp.nanmean(counted, axis=axis), low, median, high)


def _joined(logs: Sequence[Array]) -> Array:
    """ln of the norm over several parts from each part's log-norm."""
    return logs[0] if len(logs) == 1 else jax.nn.logsumexp(2 * jnp.stack(logs), axis=0) / 2
