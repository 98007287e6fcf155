"""A recurrence a few steps at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.types import PyTree


def in_pieces(
    run: Callable, size: int, carry: PyTree, inputs: PyTree, *, rest: Callable | None = None
) -> tuple[PyTree, PyTree, PyTree]:
    """`run` over pieces of `size` steps, one after another, and over what is left by `rest` (`run` where not given).

    run: (carry, inputs [size ...]) -> (carry, outputs [size ...], said), `said` being of the piece as a whole.
    Returns the last carry, all outputs [T ...] and what was said [pieces ...].
    """
    length = jax.tree.leaves(inputs)[0].shape[0]
    whole = length - length % size
    parts = []
    if whole:
        folded = jax.tree.map(lambda a: a[:whole].reshape(whole // size, size, *a.shape[1:]), inputs)

        def one(carry: PyTree, piece: PyTree) -> tuple[PyTree, tuple]:
            carry, *out = run(carry, piece)
            return carry, tuple(out)

        carry, (outputs, said) = lax.scan(one, carry, folded)
        parts.append((jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), outputs), said))
    if whole < length:
        carry, outputs, said = (rest or run)(carry, jax.tree.map(lambda a: a[whole:], inputs))
        parts.append((outputs, jax.tree.map(lambda a: jnp.asarray(a)[None], said)))
    outputs, said = jax.tree.map(lambda *found: jnp.concatenate(found), *parts) if len(parts) > 1 else parts[0]
    return carry, outputs, said
