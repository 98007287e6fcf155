"""What a recurrent matrix alone says of its gradients, and a penalty that keeps their norm (Pascanu et al. 2013)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Shaped

from rnnlab.engines import scan
from rnnlab.layers import Join, layers, plain, zero_taps
from rnnlab.noise import quiet
from rnnlab.probes.flow import Stack, as_stack, unit
from rnnlab.types import Cell, PyTree
from rnnlab.unroll import mask
from rnnlab.wrappers import hold, select

# The largest slope of an activation, gamma: |phi'| <= gamma everywhere.
SLOPES: dict[Callable, float] = {jnp.tanh: 1.0, jax.nn.sigmoid: 0.25, jax.nn.relu: 1.0}


class Bounds(NamedTuple):
    """sigma_max: the largest singular value of U. log_rate: ln(gamma sigma_max), nats a step: no product of k Jacobians
    has a spectral norm above k log_rate. vanishes: log_rate < 0, sufficient for gradients to vanish. may_explode:
    log_rate > 0, necessary for them to explode, and not sufficient."""

    sigma_max: Float[Array, "..."]
    log_rate: Float[Array, "..."]
    vanishes: Bool[Array, "..."]
    may_explode: Bool[Array, "..."]

    def at(self, lags: Sequence[int] | np.ndarray) -> Float[Array, "K ..."]:
        """The bound on ln ||dh_T/dh_{T-k}|| at lags k: [K, ...], to stand beside `product_norms(...).spectral`."""
        lags = jnp.asarray(lags).astype(self.log_rate.dtype)
        return lags.reshape(-1, *(1,) * self.log_rate.ndim) * self.log_rate


def recurrent_bounds(U: Float[Array, "... H H"], gamma: float | int | Callable[[Array], Array] = jnp.tanh) -> Bounds:
    """Bounds on the gradient of h_t = phi(x_t W + h_{t-1} U + b) from its recurrent matrix U alone.

    J_t = diag(phi') U^T, so ||J_t|| <= gamma sigma_max, gamma the largest slope: 1 of tanh and relu, 1/4 of a sigmoid.
    sigma_max < 1/gamma suffices to vanish; sigma_max > 1/gamma is necessary to explode (Pascanu, Mikolov & Bengio 2013,
    section 2.1). gamma: a number, or one of these three. Gated cells have no such bound.

    Time: one decomposition, H^3. Memory: H^2. It sees no data and is loose where units saturate: prefer
    `product_norms` for what a network does, this for what it cannot do. Raises ValueError for an activation whose
    slope is not known here.
    """
    if callable(gamma):
        if gamma not in SLOPES:
            raise ValueError(f"recurrent_bounds: expected tanh, sigmoid, relu or the largest slope, got {gamma}")
        gamma = SLOPES[gamma]
    sigma_max = jnp.linalg.norm(U, 2, axis=(-2, -1))
    log_rate = jnp.log(sigma_max) + jnp.log(jnp.asarray(gamma, U.dtype))
    return Bounds(sigma_max, log_rate, log_rate < 0, log_rate > 0)


def omega(
    cells: Stack,
    params: PyTree,
    xs: Shaped[Array | np.ndarray, "T ..."],
    loss: Callable[[Array], Array],
    *,
    start: PyTree = None,
    keep: Bool[Array | np.ndarray, "T ..."] | None = None,
    lengths: Integer[Array | np.ndarray, "..."] | Sequence[int] | None = None,
    join: Join | Sequence[Join] = plain,
) -> Float[Array, "..."]:
    """The penalty on gradients that change their norm on the way back, each example's own [*B], summed over layers:

        Omega = sum_t (||delta_t J_t|| / ||delta_t|| - 1)^2,   delta_t = dL/dcarry_t,  J_t = dcarry_t/dcarry_{t-1}

    (Pascanu, Mikolov & Bengio 2013, equation 9.) loss: outputs [T, *B, H] -> each example's own [*B]. delta is the
    total derivative, as a tap sees it, and J the layer's own. A step whose delta is 0 (padding, after the last step
    that the loss looks at, below the float format) counts for nothing.

    Its gradient is the immediate one (their equation 10): delta_t, carry_{t-1} and the layer's input are constants, and
    only what the parameters do to J_t directly counts. In their form, x_t = U phi(x_{t-1}) + ..., that is U alone; in
    ours the slope phi'(x_t W + h_{t-1} U + b) counts too, so W and b have a part. That makes it cheap and is no
    gradient of the value above: a line search on it may fail.

    Time: the forward and backward pass that find delta, and one pull a step, all steps at once; its gradient as much
    again. Memory: the carries, their taps and T B S. Prefer `flossing_loss` for a quantity of the network and not of a
    loss, or for a true gradient.
    """
    cells, params, start = as_stack("omega", cells, params, start)
    xs = jnp.asarray(xs)
    batch_shape = xs.shape[1 : xs.ndim - cells[0].input_rank]
    keep = mask(keep, lengths, xs.shape[0], batch_shape)
    constant = jax.lax.stop_gradient((params, xs, start))
    inputs, carries, deltas = _adjoint(cells, *constant, loss, keep, join)

    total = jnp.zeros(batch_shape, jax.tree.leaves(carries)[0].dtype)
    for cell, own, first, x, after, delta in zip(
        map(quiet, cells), params, start, inputs, carries, deltas, strict=True
    ):
        weights = cell.prepare(own)
        first = jax.lax.stop_gradient(cell.start(weights, batch_shape) if first is None else first)
        before = jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest[:-1]]), first, after)
        zs = cell.drive(weights, x)

        def step(carry: PyTree, cell: Cell = cell, weights: PyTree = weights, zs: PyTree = zs) -> PyTree:
            new = jax.vmap(cell.step, in_axes=(None, 0, 0))(weights, carry, zs)
            return new if keep is None else hold(keep, new, carry)

        total = total + _penalty(step, before, delta, len(batch_shape))
    return total


# Inside.


def _adjoint(
    cells: Sequence[Cell], params: PyTree, xs: Array, start: PyTree, loss: Callable, keep: Array | None, join: PyTree
) -> tuple[list[Array], tuple, tuple]:
    """Of every layer: its inputs [T, *B, D], its carries and dL/dcarry [T, *B, *event]."""
    batch_shape = xs.shape[1 : xs.ndim - cells[0].input_rank]
    taps = zero_taps(cells, params, xs.shape[0], batch_shape)

    def losses(taps: PyTree) -> tuple[Array, tuple]:
        out = layers(cells, params, xs, start=start, keep=keep, taps=taps, join=join, engine=scan)
        found = loss(out.ys)
        if found.shape != batch_shape:
            raise ValueError(f"omega: expected each example's own loss, of shape {batch_shape}, got {found.shape}")
        return found.sum(), out.carries

    deltas, carries = jax.grad(losses, has_aux=True)(taps)
    joins = tuple(join) if isinstance(join, Sequence) else (join,) * len(cells)
    inputs = [xs if keep is None else select(keep, xs, jnp.zeros_like(xs))]
    for cell, own, carry, join in zip(map(quiet, cells[:-1]), params[:-1], carries[:-1], joins[:-1], strict=True):
        ys = cell.read(cell.prepare(own), carry, inputs[-1])
        ys = ys if keep is None else select(keep, ys, jnp.zeros_like(ys))
        inputs.append(join(inputs[-1], ys))
    return inputs, carries, deltas


def _penalty(step: Callable, before: PyTree, delta: PyTree, batch_rank: int) -> Float[Array, "..."]:
    """Of one layer, summed over time. The direction of delta is pulled back, not delta: its squares may underflow."""
    lead = 1 + batch_rank
    flat = jnp.concatenate([d.reshape(*d.shape[:lead], -1) for d in jax.tree.leaves(delta)], axis=-1)
    direction, log = unit(flat)
    leaves, tree = jax.tree.flatten(delta)
    ends = np.cumsum([int(np.prod(d.shape[lead:])) for d in leaves])[:-1]
    parts = jnp.split(direction, ends.tolist(), axis=-1)
    cotangent = tree.unflatten([part.reshape(d.shape) for part, d in zip(parts, leaves, strict=True)])
    _, pull = jax.vjp(step, before)
    pulled = jax.tree.leaves(pull(cotangent)[0])
    squares = sum(jnp.sum(p * p, axis=tuple(range(lead, p.ndim))) for p in pulled)
    some = squares > 0
    ratio = jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1)), 0)
    return jnp.sum(jnp.where(log > -jnp.inf, (ratio - 1) ** 2, 0), axis=0)
