"""One training step on one and on several host devices, in a process that was started with eight.

    python devices_run.py float64 1x2,2x1,4x1

Called by test_train_devices.py, which compares. For each N x K, devices and pieces on each: how far state and metrics
are from those of one device and one piece, relative to 1, and the all-reduces of the compiled step.
"""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import cells, train
from rnnlab.data.batches import Batch
from rnnlab.errors import InputError
from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.losses import Losses
from rnnlab.noise import kept
from rnnlab.train import devices
from rnnlab.wrappers import hold

T, B, D, H = 6, 8, 3, 5
STACK = (cells.elman(H), cells.gru(H))
LENGTHS = np.array([6, 0, 3, 0, 5, 1, 6, 2], np.int32)  # two devices of four have less than the others, and empty rows


def loss(params, taps, batch, keys, carry):
    """Carried, with dropout by the rows' own keys."""
    xs, lengths = batch.sequences["x"], batch.lengths["x"]
    xs = xs * jax.vmap(lambda key: kept(key, 0.5, (D,), xs.dtype))(keys)
    begun = hold(batch.fixed["resets"], jax.tree.map(jnp.zeros_like, carry), carry)
    out = layers(STACK, params["stack"], xs, taps=taps, lengths=lengths, start=begun)
    keep = jnp.arange(T)[:, None] < lengths
    steps = jnp.where(keep, (out.ys @ params["head"] - xs.sum(-1)) ** 2, 0)
    count = lengths.astype(steps.dtype)
    return Losses(steps.sum(0), count, out.last, out.carries, keep, {"numbers": batch.numbers * count})


def given(dtype):
    random = np.random.default_rng(11)
    draw = lambda *shape: random.normal(size=shape).astype(dtype)  # noqa: E731
    sequences = {"x": draw(T, B, D), "unused": draw(2 * T, B)}
    resets = {"resets": np.arange(B) % 3 == 0}
    batch = Batch(sequences, resets, {"x": LENGTHS, "unused": LENGTHS}, np.arange(B, dtype=np.int32))
    stack = jax.eval_shape(lambda: init_layers(STACK, jax.random.key(0), D, dtype))
    carry = jax.eval_shape(lambda: tuple(cell.start(own, (B,)) for cell, own in zip(STACK, stack, strict=True)))
    params, carry = jax.tree.map(lambda s: jnp.asarray(draw(*s.shape)) / 2, (stack, carry))
    return {"stack": params, "head": jnp.asarray(draw(H))}, batch, carry


def reductions(text: str) -> dict[str, int]:
    """All-reduces of a compiled program: those in while loops, at any depth, and the others."""
    bodies = {}
    for computation in re.split(r"\n(?=%|ENTRY)", text):
        name = re.match(r"(?:ENTRY )?%?([\w.\-]+)", computation)
        if name:
            bodies[name[1]] = computation
    inside = set(re.findall(r"(?:body|condition)=%?([\w.\-]+)", text))
    while more := {n for b in inside for n in re.findall(r"%([\w.\-]+)", bodies.get(b, "")) if n in bodies} - inside:
        inside |= more
    count = {name: len(re.findall(r" all-reduce(?:-start)?\(", body)) for name, body in bodies.items()}
    loops = sum(count[name] for name in inside if name in count)
    return {"inside": loops, "outside": sum(count.values()) - loops, "loops": len(re.findall(r" while\(", text))}


def step_on(count: int, pieces: int, params, batch, carry, place: bool = True):
    """State and metrics after a step, and its reductions. Without `place`, from the host as it is."""
    optimiser = train.optimiser("momentum", train.schedule("constant", peak=0.1, steps=1, warm_up=0))
    mesh = devices.mesh(count) if count > 1 else None
    shape = lambda params, batch: zero_taps(STACK, params["stack"], T, batch.numbers.shape)  # noqa: E731
    step = train.train_step(loss, optimiser, axes=devices.AXES, taps=shape, clip=0.5, accumulate=pieces, mesh=mesh)
    state = train.init_state(params, optimiser, jax.random.key(2), carry)
    if mesh is not None and place:
        state, batch = devices.place(state, mesh), devices.split(batch, devices.AXES, mesh)
    compiled = step.lower(state, batch).compile()
    after, seen = compiled(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert jax.tree.map(lambda a: a.sharding, after) == jax.tree.map(lambda a: a.sharding, state) or mesh is None
    again, _ = compiled(after, batch)  # what comes out goes in again
    return jax.device_get((again.replace(key=()), seen)), reductions(compiled.as_text())


def far(found, expected) -> float:
    """The largest difference, relative to 1 or the value; what is not finite must be so in both."""
    gaps = [0.0]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        same = np.isfinite(other)
        if not np.array_equal(one[~same], other[~same], equal_nan=True):
            return float("inf")
        one, other = one[same], other[same]
        gaps.append(np.max(np.abs(one - other) / np.maximum(1, np.abs(other)), initial=0))
    return float(max(gaps))


def refused(what) -> str:
    try:
        what()
    except InputError as error:
        return str(error)
    return "nothing was refused"


def main(dtype: str, ways: str) -> None:
    jax.config.update("jax_enable_x64", dtype == "float64")
    arrays = given(jnp.dtype(dtype))
    whole, alone = step_on(1, 1, *arrays)
    assert bool(whole[1].finite) and jax.tree.leaves(whole[0].params)[0].dtype == dtype
    found = {"1x1": {"far": 0.0, **alone}}
    for way in ways.split(","):
        count, pieces = map(int, way.split("x"))
        got, reduced = step_on(count, pieces, *arrays)
        found[way] = {"far": far(got, whole), **reduced}
    said = {
        "more than there are": refused(lambda: devices.mesh(9)),
        "none": refused(lambda: devices.check(0)),
        "rows": refused(lambda: step_on(3, 1, *arrays, place=False)),
        "rows of a carry": refused(lambda: step_on(3, 1, *arrays)),
        "rows of a batch": refused(lambda: devices.split(arrays[1], devices.AXES, devices.mesh(5))),
    }
    print(json.dumps({"found": found, "said": said}))


if __name__ == "__main__":
    main(*sys.argv[1:])
