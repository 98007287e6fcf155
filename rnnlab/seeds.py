"""Several seeds of one configuration in one process: together or one after another, whichever was measured faster."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab.timing import in_turns
from rnnlab.types import PyTree


def in_turn(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The compiled function called once a seed. Not to be jitted: `jax.lax.map` is the same inside a program."""
    one = jax.jit(function)

    def run(*args: PyTree) -> PyTree:
        count = len(jax.tree.leaves(args)[0])
        outs = [one(*jax.tree.map(lambda a, n=n: a[n], args)) for n in range(count)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *outs)

    return run


def mapped(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """One program, one seed after another."""
    return jax.jit(lambda *args: lax.map(lambda one: function(*one), args))


def together(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """One program, all seeds side by side in every operation."""
    return jax.jit(jax.vmap(function))


WAYS = {"in turn": in_turn, "map": mapped, "vmap": together}


class OverSeeds(NamedTuple):
    """run: the function over a leading axis of seeds. way: how, a key of `WAYS`. seconds: median of a call by each way,
    {} where none was measured."""

    run: Callable[..., PyTree]
    way: str
    seconds: dict[str, float]

    def __call__(self, *args: PyTree) -> PyTree:
        return self.run(*args)


def over_seeds(
    function: Callable[..., PyTree], *examples: PyTree, way: str | None = None, seconds: float = 1.0
) -> OverSeeds:
    """`function` of one seed's arguments, over arguments with a leading axis of seeds [S ...].

    function: pure; what it is given and gives back are trees of arrays. A training step, or many in a scan.
    examples: arguments of the size that it will be called with; each way is compiled and timed on them for about
              `seconds` all together, in turns, and the fastest is taken. Never slower than runs in turn, for those are
              one of the ways. On a CPU a batched product of several seeds is slower than products one by one; on a
              GPU the opposite holds.
    way:      takes this one of `WAYS` unmeasured. Each seed's result is that of its run alone: by `in turn` and `map`
              of the same operations, by `vmap` up to the rounding of batched products. To get the same bits again,
              store the way that was chosen and ask for it.

    Raises ValueError for an unknown way, for no examples where one has to be measured, and where leading axes differ.
    """
    if way is not None and way not in WAYS:
        raise ValueError(f"over_seeds: expected way to be one of {', '.join(WAYS)}, got {way!r}")
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(examples)}
    if len(counts) > 1 or counts == {()}:
        raise ValueError(f"over_seeds: expected one leading axis of seeds in every array, got {sorted(counts)}")
    if way is not None:
        return OverSeeds(WAYS[way](function), way, {})
    if not examples:
        raise ValueError("over_seeds: expected example arguments to measure the ways on, or a way; got neither")
    ways = {name: build(function) for name, build in WAYS.items()}
    taken = in_turns({name: _call(run, examples) for name, run in ways.items()}, seconds=seconds, least=3)
    medians = {name: float(np.median(times)) for name, times in taken.items()}
    fastest = min(medians, key=medians.__getitem__)
    return OverSeeds(ways[fastest], fastest, medians)


def _call(run: Callable[..., PyTree], examples: tuple) -> Callable[[], Any]:
    return lambda: run(*examples)
