"""The gradient taken forward in time, and lag by lag: RTRL, and what truncated BPTT leaves out.

A stack is here one step of all its layers, which has no taps and so gives no wrong ones.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Integer, Shaped

from rnnlab.layers import Join, layers, plain
from rnnlab.noise import quiet
from rnnlab.probes.gradients import log_norm
from rnnlab.types import Cell, Directions, PyTree
from rnnlab.unroll import mask
from rnnlab.wrappers import hold, select


class ForwardGradient(NamedTuple):
    """losses: each example's own [*B]. grads: of their mean, as the parameters."""

    losses: Float[Array, "..."]
    grads: PyTree


class TruncationBias(NamedTuple):
    """Of g_k, whose windows are of k steps, beside the whole gradient g. window: k = 1 ... K.
    bias: ||g_k - g|| / ||g||. cosine: between the two."""

    window: Int[Array, " K"]
    bias: Float[Array, " K"]
    cosine: Float[Array, " K"]


Loss = Callable[[Array], Array]


def rtrl(
    cells: Cell | Sequence[Cell | Directions],
    params: PyTree,
    xs: Shaped[Array, "T ..."],
    loss: Loss,
    *,
    start: Sequence[PyTree] | None = None,
    keep: Bool[Array | np.ndarray, "T ..."] | None = None,
    lengths: Integer[Array | np.ndarray, "..."] | Sequence[int] | None = None,
    join: Join | Sequence[Join] = plain,
) -> ForwardGradient:
    """The exact gradient by real-time recurrent learning (Williams & Zipser 1989): it keeps nothing of the past.

        M_t = J_t M_{t-1} + dstep/dtheta,   dL/dtheta = sum_t dL/dy_t (dy_t/dcarry_t M_t + dread/dtheta)

    with M_t = dcarry_t/dtheta [S, P]. loss as in `gradient_norms`: outputs [T, *B, H] -> each example's own [*B]. As it
    may look at all outputs, dL/dy_t come from a forward pass before; of a sum over steps they are known step by step.
    cells, params, start, keep, lengths and join as `layers` takes them; any cell or stack that runs forward in time.
    Cost: memory B S P floats whatever T, time T B S^2 P (S of all layers together, P about 8 S^2 of an LSTM): H^4 where
    BPTT takes H^2. Prefer BPTT, `value_and_grad`, wherever T sets of carries fit; this is the check, and the yardstick.
    """
    run = _run(cells, params, xs, loss, start, keep, lengths, join)
    flat_weights, unravel = ravel_pytree(run.weights)
    fold = lambda a: a.reshape(a.shape[0], -1, *a.shape[1 + len(run.batch_shape) :])  # noqa: E731

    def example(first: PyTree, xs: Array, keep: Array | None, dys: Array) -> Array:
        flat_first, unravel_carry = ravel_pytree(first)

        def advanced(w: Array, s: Array, x: Array, keep: Array | None) -> tuple[Array, Array]:
            new, y = run.step(unravel(w), unravel_carry(s), x, keep)
            return ravel_pytree(new)[0], y

        def step(state: tuple, given: tuple) -> tuple:
            s, M, gradient = state
            x, keep, dy = given
            _, pull = jax.vjp(lambda w, s: advanced(w, s, x, keep)[1], flat_weights, s)
            dw, ds = pull(dy)
            new = lambda w, s: advanced(w, s, x, keep)[0]  # noqa: E731
            F, J = jax.jacrev(new)(flat_weights, s), jax.jacfwd(new, argnums=1)(flat_weights, s)
            return (new(flat_weights, s), J @ M + F, gradient + ds @ M + dw), None

        begun = jax.jacrev(lambda w: ravel_pytree(run.first(unravel(w), ()))[0])(flat_weights)
        begun = jnp.zeros_like(begun) if run.begun else begun
        return lax.scan(step, (flat_first, begun, jnp.zeros_like(flat_weights)), (xs, keep, dys))[0][2]

    first = jax.tree.map(lambda a: fold(a[None])[0], run.start)
    given = (fold(run.xs), run.keep if run.keep is None else fold(run.keep), fold(run.dys))
    axes = (0, 1, None if run.keep is None else 1, 1)
    gradient = jax.vmap(example, axes)(first, *given).sum(0)
    return ForwardGradient(run.losses, run.of_params(unravel(gradient)))


def lag_gradients(
    cells: Cell | Sequence[Cell | Directions],
    params: PyTree,
    xs: Shaped[Array, "T ..."],
    loss: Loss,
    longest: int,
    **how: PyTree,
) -> PyTree:
    """The gradient of the mean loss, cut by lag: leaves [K, ...], K = `longest` <= T; their sum over all T lags is g.

    Entry j is what the parameters do in the step j steps before the one whose output the loss reads (0: in that step):

        c_j = sum_s dL/dy_s (dy_s/dcarry_s) J_s ... J_{s-j+1} dstep_{s-j}/dtheta

    Arguments as in `rtrl`; where the first carry depends on parameters, it counts with the first step. Truncated BPTT
    of windows of k steps, g_k = sum_s of the gradient of loss_s through at most k steps, is the sum of the first k.
    Cost: K times one backward pass, the T steps of each side by side; memory one set of carries and K P floats.
    """
    _check("lag_gradients", longest, xs)
    run = _run(cells, params, xs, loss, **how)
    return lax.scan(lambda state, _: run.lag(*state), run.begin(), length=longest)[1]


def truncation_bias(
    cells: Cell | Sequence[Cell | Directions],
    params: PyTree,
    xs: Shaped[Array, "T ..."],
    loss: Loss,
    longest: int,
    **how: PyTree,
) -> TruncationBias:
    """How far truncated BPTT is from the gradient, for every window k = 1 ... longest at once; g_T is g.

    Arguments, windows and time as in `lag_gradients`; memory P floats and not K P. Every step has its own window of k
    steps here. Training that cuts the sequence into pieces of k gives a step 1 to k steps, on average (k+1)/2, and is
    further from g than g_k; at k = 1 they are the same.
    """
    _check("truncation_bias", longest, xs)
    run = _run(cells, params, xs, loss, **how)
    whole = ravel_pytree(_gradient(cells, params, xs, loss, **how))[0]

    def step(state: tuple, _: None) -> tuple:
        lag, so_far = state
        lag, found = run.lag(*lag)
        so_far = so_far + ravel_pytree(found)[0]
        bias = jnp.exp(log_norm(so_far - whole, 0) - log_norm(whole, 0))
        return (lag, so_far), (bias, (_unit(so_far) * _unit(whole)).sum())

    found = lax.scan(step, (run.begin(), jnp.zeros_like(whole)), length=longest)[1]
    return TruncationBias(jnp.arange(1, longest + 1), *found)


class _Run(NamedTuple):
    """A stack over a sequence as one step of all layers, with what the loss asks of its outputs. single: a cell was
    given, and no stack. begun: the first carry was given, and depends on no parameter."""

    cells: tuple[Cell, ...]
    joins: tuple[Join, ...]
    weights: tuple
    pull: Callable[[tuple], tuple]
    xs: Array
    keep: Array | None
    start: tuple
    carries: tuple
    losses: Array
    dys: Array
    batch_shape: tuple[int, ...]
    single: bool
    begun: bool

    def first(self, weights: tuple, batch_shape: tuple[int, ...]) -> tuple:
        return tuple(cell.start(own, batch_shape) for cell, own in zip(self.cells, weights, strict=True))

    def step(self, weights: tuple, carries: tuple, x: Array, keep: Array | None) -> tuple[tuple, Array]:
        """All layers once: their new carries, and what the last one hands on."""
        after = []
        for cell, own, carry, join in zip(self.cells, weights, carries, self.joins, strict=True):
            new = cell.step(own, carry, cell.drive(own, x))
            new = new if keep is None else hold(keep, new, carry)
            y = cell.read(own, new, x)
            x = join(x, y if keep is None else select(keep, y, jnp.zeros_like(y)))
            after.append(new)
        return tuple(after), x

    def of_params(self, dweights: tuple) -> PyTree:
        [grads] = self.pull(dweights)
        return grads[0] if self.single else grads

    def begin(self) -> tuple:
        """What reaches the carries after each step, and the outputs, at lag 0."""
        return jax.tree.map(jnp.zeros_like, self.carries), self.dys

    def lag(self, after: tuple, dys: Array) -> tuple[tuple, PyTree]:
        """One step back from every step at once: what reaches the carries one lag further, and what this lag gives."""
        before = jax.tree.map(lambda first, c: jnp.concatenate([first[None], c[:-1]]), self.start, self.carries)
        _, pull = jax.vjp(lambda w, carries: self.step(w, carries, self.xs, self.keep), self.weights, before)
        dweights, dbefore = pull((after, dys))
        if not self.begun:
            _, begun = jax.vjp(lambda w: self.first(w, self.batch_shape), self.weights)
            [more] = begun(jax.tree.map(lambda d: d[0], dbefore))
            dweights = jax.tree.map(jnp.add, dweights, more)
        shifted = jax.tree.map(lambda d: jnp.concatenate([d[1:], jnp.zeros_like(d[:1])]), dbefore)
        return (shifted, jnp.zeros_like(dys)), self.of_params(dweights)


def _run(cells, params, xs, loss, start=None, keep=None, lengths=None, join=plain) -> _Run:
    single = isinstance(cells, Cell)
    cells, params = ((cells,), (params,)) if single else (tuple(cells), tuple(params))
    if any(isinstance(cell, Directions) for cell in cells):
        raise ValueError("rtrl: expected cells that run forward in time, got a bidirectional layer")
    cells = tuple(map(quiet, cells))
    joins = tuple(join) if isinstance(join, Sequence) else (join,) * len(cells)
    batch_shape = xs.shape[1 : xs.ndim - cells[0].input_rank]
    keep = mask(keep, lengths, xs.shape[0], batch_shape)
    xs = xs if keep is None else select(keep, xs, jnp.zeros_like(xs))
    prepared = lambda params: tuple(cell.prepare(own) for cell, own in zip(cells, params, strict=True))  # noqa: E731
    if start is not None and any(one is None for one in start):
        raise ValueError("rtrl: expected a first carry for every layer, or start=None, got None for some")
    weights, pull = jax.vjp(prepared, params)
    own = tuple(cell.start(w, batch_shape) for cell, w in zip(cells, weights, strict=True))
    out = layers(cells, params, xs, start=start, keep=keep, join=joins)
    losses = loss(out.ys)
    if losses.shape != batch_shape:
        raise ValueError(f"rtrl: expected each example's own loss, of shape {batch_shape}, got shape {losses.shape}")
    dys = jax.grad(lambda ys: loss(ys).mean())(out.ys)
    first = own if start is None else tuple(start)
    return _Run(
        cells, joins, weights, pull, xs, keep, first, out.carries, losses, dys, batch_shape, single, start is not None
    )


def _gradient(cells, params, xs, loss, **how) -> PyTree:
    """By BPTT."""
    one = isinstance(cells, Cell)
    outputs = lambda params: layers((cells,) if one else cells, (params,) if one else params, xs, **how).ys  # noqa: E731
    return jax.grad(lambda params: loss(outputs(params)).mean())(params)


def _check(name: str, longest: int, xs: Array) -> None:
    if not 1 <= longest <= len(xs):
        raise ValueError(f"{name}: expected longest in 1..T = {len(xs)}, got {longest}")


def _unit(vector: Array) -> Array:
    """Over its norm; 0 where it is 0."""
    top = jnp.abs(vector).max()
    scaled = vector / jnp.where(top > 0, top, 1)
    size = jnp.linalg.norm(scaled)
    return scaled / jnp.where(size > 0, size, 1)
