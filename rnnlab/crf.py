"""A linear-chain conditional random field: a distribution over whole paths of classes, one a step.

    P(y | x) = exp(score(y)) / Z,   score(y) = start[y_1] + sum_t e_t[y_t] + sum_t A[y_{t-1}, y_t] + end[y_T]

(Lafferty, McCallum & Pereira 2001, equation 1, its features of nodes being the emissions e [T, *B, C] that a network
gives.) Z sums over all C^T paths by the forward recursion (section 3 there), in logarithms; marginals are its gradient.

With lengths, right padding changes nothing, NaN in it neither. A row of length 0 has one path, the empty one: its
score and log-partition are 0, and its probability is 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer, Key

from rnnlab.wrappers import select

# The score of what is forbidden: exp of it is 0 in any format, but not -inf, so that a class which no path reaches has
# the gradient 0 and not NaN. Emissions beyond it would undo it.
FORBIDDEN = -1e4


class Chain(NamedTuple):
    """transitions: of a step's class (the row) and the next one's. start, end: of the first step's and the last's."""

    transitions: Float[Array, "C C"]
    start: Float[Array, " C"]
    end: Float[Array, " C"]


class Allowed(NamedTuple):
    """Which steps of a path are possible, as `Chain` has them."""

    transitions: Bool[np.ndarray, "C C"]
    start: Bool[np.ndarray, " C"]
    end: Bool[np.ndarray, " C"]


class Path(NamedTuple):
    """tags: the classes of the likeliest path, 0 at padding. score: its own, to be compared with the log-partition."""

    tags: Int[Array, "T *B"]
    score: Float[Array, "*B"]


def init(key: Key[Array, ""], classes: int, dtype=jnp.float32) -> Chain:
    """Uniform in [-0.1, 0.1]: near the model without transitions, in which all steps are independent."""
    shapes = Chain((classes, classes), (classes,), (classes,))
    keys = Chain(*jax.random.split(key, 3))
    return Chain(*(jax.random.uniform(k, s, dtype, -0.1, 0.1) for k, s in zip(keys, shapes, strict=True)))


def constrained(chain: Chain, allowed: Allowed) -> Chain:
    """The chain in which paths that are not allowed have probability 0; no gradient flows to their scores."""
    floor = jnp.asarray(FORBIDDEN, chain.transitions.dtype)
    return Chain(*(jnp.where(may, scores, floor) for may, scores in zip(allowed, chain, strict=True)))


def bio(tags: Sequence[str]) -> Allowed:
    """What the tags O, B-TYPE and I-TYPE allow (Ramshaw & Marcus 1995, with B- at every beginning): I-TYPE comes only
    after B-TYPE or I-TYPE. Of types that have no B- (the tags O and I-TYPE alone) everything is allowed."""
    begun = {tag[2:] for tag in tags if tag.startswith("B-")}
    inside = np.array([tag.startswith("I-") and tag[2:] in begun for tag in tags])
    same = np.array([[one[2:] == other[2:] and one[:2] in ("B-", "I-") for other in tags] for one in tags])
    return Allowed(~inside | same, ~inside, np.ones(len(tags), bool))


def score(
    chain: Chain,
    emissions: Float[Array | np.ndarray, "T *B C"],
    tags: Integer[Array | np.ndarray, "T *B"],
    lengths: Integer[Array | np.ndarray, "*B"] | None = None,
) -> Float[Array, "*B"]:
    """Of one path a row, unnormalised. Raises ValueError for no step, T = 0, as all functions here."""
    keep, emissions = _checked(emissions, lengths)
    tags = jnp.where(keep, jnp.asarray(tags), 0)
    steps = jnp.where(keep, jnp.take_along_axis(emissions, tags[..., None], -1)[..., 0], 0)
    moves = jnp.where(keep[1:], chain.transitions[tags[:-1], tags[1:]], 0)
    last = jnp.take_along_axis(tags, jnp.maximum(keep.sum(0, dtype=tags.dtype) - 1, 0)[None], 0)[0]
    ends = jnp.where(keep[0], chain.start[tags[0]] + chain.end[last], 0)
    return steps.sum(0) + moves.sum(0) + ends


def log_partition(
    chain: Chain,
    emissions: Float[Array | np.ndarray, "T *B C"],
    lengths: Integer[Array | np.ndarray, "*B"] | None = None,
) -> Float[Array, "*B"]:
    """ln Z, the logarithm of the sum of exp(score) over all paths."""
    keep, emissions = _checked(emissions, lengths)

    def step(alpha: Array, given: tuple) -> tuple[Array, None]:
        kept, emission = given
        new = jax.nn.logsumexp(alpha[..., :, None] + chain.transitions, axis=-2) + emission
        return select(kept, new, alpha), None

    alpha, _ = lax.scan(step, chain.start + emissions[0], (keep[1:], emissions[1:]))
    return jnp.where(keep[0], jax.nn.logsumexp(alpha + chain.end, axis=-1), 0)


def negative_log_likelihood(
    chain: Chain,
    emissions: Float[Array | np.ndarray, "T *B C"],
    tags: Integer[Array | np.ndarray, "T *B"],
    lengths: Integer[Array | np.ndarray, "*B"] | None = None,
) -> Float[Array, "*B"]:
    """-ln P(tags) of each row in nats."""
    return log_partition(chain, emissions, lengths) - score(chain, emissions, tags, lengths)


def marginals(
    chain: Chain,
    emissions: Float[Array | np.ndarray, "T *B C"],
    lengths: Integer[Array | np.ndarray, "*B"] | None = None,
) -> Float[Array, "T *B C"]:
    """P(y_t = c) of every step and class, 0 at padding: d ln Z / d e_t[c], so that the backward recursion is the
    forward one, differentiated."""
    return jax.grad(lambda emissions: log_partition(chain, emissions, lengths).sum())(emissions)


def conditionals(
    chain: Chain,
    emissions: Float[Array | np.ndarray, "T *B C"],
    tags: Integer[Array | np.ndarray, "T *B"],
    lengths: Integer[Array | np.ndarray, "*B"] | None = None,
) -> Float[Array, "T *B"]:
    """-ln P(y_t | y_1 .. y_{t-1}) of every step, 0 at padding: the path's loss, loss 1 + loss 2 + ..., term by term.

    A chain conditioned on its beginning is a Markov chain whose next step weighs what is possible after it, the
    backward recursion's b_t[c] = ln sum of exp(score) over all ends of a path that is in class c at step t.
    """
    keep, emissions = _checked(emissions, lengths)
    after = jnp.concatenate([keep[1:], jnp.zeros_like(keep[:1])])  # whether a step follows

    def step(beta: Array, given: tuple) -> tuple[Array, Array]:
        kept, emission = given  # of the step after the one that beta is wanted for
        new = jax.nn.logsumexp(chain.transitions + (emission + beta)[..., None, :], axis=-1)
        beta = select(kept, new, jnp.broadcast_to(chain.end, new.shape))
        return beta, beta

    following = jnp.concatenate([emissions[1:], jnp.zeros_like(emissions[:1])])
    first = jnp.broadcast_to(chain.end, emissions.shape[1:])
    _, beta = lax.scan(step, first, (after, following), reverse=True)
    tags = jnp.where(keep, jnp.asarray(tags), 0)
    before = jnp.concatenate([jnp.broadcast_to(chain.start, (1, *first.shape)), chain.transitions[tags[:-1]]])
    logs = jax.nn.log_softmax(before + emissions + beta, axis=-1)
    return jnp.where(keep, -jnp.take_along_axis(logs, tags[..., None], -1)[..., 0], 0)


def viterbi(
    chain: Chain,
    emissions: Float[Array | np.ndarray, "T *B C"],
    lengths: Integer[Array | np.ndarray, "*B"] | None = None,
) -> Path:
    """The likeliest path of every row (Viterbi 1967; Forney 1973); of equal ones that of the lowest classes, the last
    step's first."""
    keep, emissions = _checked(emissions, lengths)
    stay = jnp.arange(emissions.shape[-1])

    def forward(best: Array, given: tuple) -> tuple[Array, Array]:
        kept, emission = given
        through = best[..., :, None] + chain.transitions
        found = through.argmax(-2)
        new = through.max(-2) + emission
        return select(kept, new, best), select(kept, found, jnp.broadcast_to(stay, found.shape))

    def backward(tag: Array, origin: Array) -> tuple[Array, Array]:
        before = jnp.take_along_axis(origin, tag[..., None], -1)[..., 0]
        return before, before

    best, origins = lax.scan(forward, chain.start + emissions[0], (keep[1:], emissions[1:]))
    best = best + chain.end
    last = best.argmax(-1)
    _, tags = lax.scan(backward, last, origins, reverse=True)
    tags = jnp.concatenate([tags, last[None]])
    return Path(jnp.where(keep, tags, 0), jnp.where(keep[0], best.max(-1), 0))


def _checked(
    emissions: Array | np.ndarray, lengths: Array | np.ndarray | None
) -> tuple[Bool[Array, "T *B"], Float[Array, "T *B C"]]:
    """Which steps count, and emissions that are 0 where they do not."""
    emissions = jnp.asarray(emissions)
    if not len(emissions):
        raise ValueError(f"crf: expected emissions [T, *B, C] of at least one step, got shape {emissions.shape}")
    steps = jnp.arange(len(emissions)).reshape(-1, *(1,) * (emissions.ndim - 2))
    lengths = jnp.full(emissions.shape[1:-1], len(emissions)) if lengths is None else lengths
    keep = steps < jnp.asarray(lengths).astype(steps.dtype)
    return keep, select(keep, emissions, jnp.zeros_like(emissions))
