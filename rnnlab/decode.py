"""What a model writes: sampled id by id as it comes, greedily, or the likeliest of all by beam search."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

# (ids [T B], carry) -> (logits [B V] of the id after the last one, carry): `LanguageModel.next` with its parameters.
Next = Callable[[Int[Array, "T B"], PyTree], tuple[Float[Array, "B V"], PyTree]]
Choose = Callable[[Key[Array, ""], Float[Array, "B V"]], Int[Array, " B"]]


def greedy(key: Key[Array, ""], logits: Float[Array, "B V"]) -> Int[Array, " B"]:
    """The likeliest id of every row, the first of equal ones; nothing is drawn."""
    return logits.argmax(-1)


def sampled(*, temperature: float | int = 1.0, top_k: int = 0, top_p: float | int = 1.0) -> Choose:
    """Draws from softmax(logits / temperature), cut to its `top_k` likeliest ids (Fan, Lewis & Dauphin 2018, section
    5.1), then to the fewest likeliest of those that hold `top_p` of what is left (nucleus: Holtzman et al. 2020,
    equation 3); ids as likely as the last one that is kept are kept too. 0 and 1 cut nothing; temperature 0: `greedy`.

    Raises ValueError for a temperature or top_k below 0 and for top_p outside (0, 1].
    """
    if not temperature >= 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"sampled: expected temperature and top_k of at least 0 and 0 < top_p <= 1, got {temperature}, {top_k}, "
            f"{top_p}"
        )
    if temperature == 0:
        return greedy

    def choose(key: Key[Array, ""], logits: Float[Array, "B V"]) -> Int[Array, " B"]:
        # Less the largest first: divided by a tiny temperature, the others go to -inf and it stays 0.
        below = logits - logits.max(-1, keepdims=True)
        return jax.random.categorical(key, cut(below / temperature, top_k, top_p))

    return choose


def cut(logits: Float[Array, "*B V"], top_k: int, top_p: float | int) -> Float[Array, "*B V"]:
    """-inf for the ids that `sampled` leaves out."""
    if 0 < top_k < logits.shape[-1]:
        least = lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p < 1:
        ordered = -jnp.sort(-logits, axis=-1)
        shares = jax.nn.softmax(ordered, axis=-1)
        before = jnp.cumsum(shares, axis=-1) - shares  # what the likelier ones hold; 0 of the first, which so stays
        least = jnp.where(before < top_p, ordered, jnp.inf).min(-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits


class Written(NamedTuple):
    """id: of one row. log_probability: its ln P by the model itself, at temperature 1 and uncut."""

    id: int
    log_probability: float


def stream(
    next_of: Next, logits: Float[Array, "1 V"], carry: PyTree, key: Key[Array, ""], choose: Choose
) -> Iterator[Written]:
    """Ids of one row one after another, without an end; logits, carry: after the prompt.

    Compiled once for a `next_of` and a `choose`: hand in the same functions for the next text.
    """
    for number in range(2**31):
        chosen, said, logits, carry = _written(next_of, choose, jax.random.fold_in(key, number), logits, carry)
        yield Written(int(chosen), float(said))


@partial(jax.jit, static_argnums=(0, 1))
def _written(
    next_of: Next, choose: Choose, key: Array, logits: Array, carry: PyTree
) -> tuple[Array, Array, Array, PyTree]:
    chosen = choose(key, logits)
    return chosen[0], jax.nn.log_softmax(logits)[0, chosen[0]], *next_of(chosen[None], carry)


class Beams(NamedTuple):
    """The likeliest first. ids: [W, T], the end's id from a hypothesis's end on. log_probability: ln P of its ids, the
    end included; -inf where there are fewer hypotheses than beams. lengths: ids before the end."""

    ids: Int[Array, "W T"]
    log_probability: Float[Array, " W"]
    lengths: Int[Array, " W"]


def beam_search(
    next_of: Next, *, width: int, steps: int, end: int | None = None
) -> Callable[[Float[Array, "1 V"], PyTree], Beams]:
    """A function (logits, carry) of one row after its prompt -> the `width` likeliest continuations found.

    Of `steps` ids, or fewer where one is `end`; compared by ln P alone, with no bonus for length. What is found is the
    likeliest of all where width >= V^(steps - 1); else hypotheses that begin badly are lost (Graves 2012, section 2.3).
    Raises ValueError for a width or steps below 1.
    """
    if width < 1 or steps < 1:
        raise ValueError(f"beam_search: expected a width and steps of at least 1, got {width} and {steps}")

    def expanded(state: tuple, at: Int[Array, ""]) -> tuple[tuple, None]:
        ids, scores, done, logits, carry = state
        each = jax.nn.log_softmax(logits)
        if end is not None:
            ended = jnp.full(each.shape[-1], -jnp.inf, each.dtype).at[end].set(0)
            each = jnp.where(done[:, None], ended, each)
        scores, places = lax.top_k((scores[:, None] + each).ravel(), width)
        parents, chosen = jnp.divmod(places.astype(jnp.int32), each.shape[-1])
        done = done[parents] if end is None else done[parents] | (chosen == end)
        ids = ids[parents].at[:, at].set(chosen)
        logits, carry = next_of(chosen[None], jax.tree.map(lambda leaf: leaf[parents], carry))
        return (ids, scores, done, logits, carry), None

    def search(logits: Float[Array, "1 V"], carry: PyTree) -> Beams:
        spread = lambda leaf: jnp.repeat(leaf, width, axis=0)  # noqa: E731
        # All beams begin alike: all but the first count for nothing, or the first step would find one id many times.
        scores = jnp.full(width, -jnp.inf, logits.dtype).at[0].set(0)
        begun = (jnp.zeros((width, steps), jnp.int32), scores, jnp.zeros(width, bool), spread(logits))
        state, _ = lax.scan(expanded, (*begun, jax.tree.map(spread, carry)), jnp.arange(steps))
        ids, scores = state[:2]
        lengths = jnp.full(width, steps) if end is None else (ids != end).cumprod(1).sum(1)
        return Beams(ids, scores, lengths.astype(jnp.int32))

    return jax.jit(search)
