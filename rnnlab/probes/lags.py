"""Who hears whom: the gradient of every step's own loss with respect to every earlier carry."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Shaped

from rnnlab.probes.gradients import GradientNorms
from rnnlab.probes.log_adjoint import adjoint, as_stack, record
from rnnlab.probes.scaled import log_scaled, unscaled
from rnnlab.types import Cell, Directions, PyTree


def lag_matrix(
    cells: Cell | Directions | Sequence[Cell | Directions],
    params: PyTree,
    xs: Shaped[Array | np.ndarray, "T ..."],
    loss: Callable[[Array], Array],
    *,
    together: int = 16,
    **how: PyTree,
) -> GradientNorms:
    """ln ||dL_s/dcarry_t|| for every pair of steps: joint [L, S, T, *B], each leaf of a carry [S, T, *B]; S = T.

    loss: outputs [T, *B, H] -> the loss of every step [T, *B]. Its row s is differentiated by itself, whatever it looks
          at. -inf where dL_s/dcarry_t is 0: at t > s, unless the network or the loss looks ahead, and at padding.
    together: rows that are computed side by side. how: as for `log_gradient_norms`, which says what is exact.

    The temporal components of the gradient (Pascanu, Mikolov & Bengio 2013, equations 4 and 5): the sum over s of
    dL_s/dcarry_t is dL/dcarry_t. Float32-safe, as the log-domain adjoint is: a lag of a thousand steps at 1/2 a step
    has its norm.

    Cost: one forward pass and T adjoints, so T^2 steps; memory that of `together` adjoints and L T^2 *B numbers. For
    the last row, or the loss as a whole, `log_gradient_norms` takes 1/T of it; where all that is wanted is how fast the
    recurrence itself forgets, `product_singular_values` does not depend on the loss.

    Raises ValueError for a loss of another shape, or together < 1.
    """
    if together < 1:
        raise ValueError(f"lag_matrix: expected together >= 1, got {together}")
    found = record(*as_stack(cells, params), xs, **how)
    losses, pull = jax.vjp(loss, found.ys)
    if losses.shape != found.ys.shape[: found.lead]:
        raise ValueError(
            f"lag_matrix: expected the loss of every step, of shape {found.ys.shape[: found.lead]}, got {losses.shape}"
        )

    def row(s: Array) -> GradientNorms:
        [dys] = pull(jnp.zeros_like(losses).at[s].set(1))
        return log_scaled(adjoint(found, unscaled(dys, found.lead)))

    norms = lax.map(row, jnp.arange(xs.shape[0]), batch_size=min(together, xs.shape[0]))
    return norms._replace(joint=jnp.moveaxis(norms.joint, 1, 0))


def mean_over_lags(
    matrix: Float[Array, "L S T ..."], keep: Bool[Array, "T ..."] | None = None
) -> Float[Array, "L T ..."]:
    """The mean of log-norms [L, S, T, *B] over all pairs at lag s - t = 0, 1 ... T - 1: [L, T, *B].

    keep [T, *B]: only pairs of which both steps count; NaN at a lag that has none. -inf, a gradient that is 0, is not
    left out: the mean is -inf. Raises ValueError unless S = T. L T^2 *B work.
    """
    T = matrix.shape[2]
    if matrix.shape[1] != T:
        raise ValueError(f"mean_over_lags: expected [L, S, T, *B] with S = T, got shape {matrix.shape}")
    later, lag = jnp.arange(T)[:, None], jnp.arange(T)[None, :]
    earlier = (later - lag) % T
    counted = (later >= lag).reshape(T, T, *(1,) * (matrix.ndim - 3))
    if keep is not None:
        counted = counted & keep[:, None] & keep[earlier]
    logs = jnp.where(counted, matrix[:, later, earlier], 0)
    count = jnp.broadcast_to(counted, logs.shape).sum(1)
    return jnp.where(count > 0, logs.sum(1) / jnp.maximum(count, 1).astype(logs.dtype), jnp.nan)
