"""What is kept in memory, as the compiler counts it; nothing here is run or timed."""

import re

import jax
import jax.numpy as jnp
import pytest

from rnnlab.cells import CELLS
from rnnlab.engines import ENGINES
from rnnlab.layers import highway, zero_taps
from rnnlab.noise import zoneout
from rnnlab.unroll import unroll

pytestmark = pytest.mark.slow

T, B, D, H = 4000, 4, 16, 32
SEQUENCE = T * B * H * 4  # bytes of one float32 sequence of states


def memory(function, *args):
    return jax.jit(function).lower(*args).compile().memory_analysis()


def setting(name, dtype=jnp.float32):
    cell = CELLS[name](H)
    params = cell.init(jax.random.key(0), D, dtype)
    return cell, params, jax.random.normal(jax.random.key(1), (T, B, D), dtype)


# Measured on the CPU with JAX 0.10.2: scan 3.0, 10.3 and 7.9 times, fused 2.2, 6.6 and 6.2. A cell with more gates
# saves more for its reverse pass; the outputs and their gradients stay whatever the chunk, 2 T B H floats.
TIMES_SMALLER = {"scan": {"elman": 2, "lstm": 7, "gru": 5}, "fused": {"elman": 1.8, "lstm": 5, "gru": 5}}


def gradient(cell, engine, chunk):
    return jax.grad(lambda params, xs: jnp.sum(unroll(cell, params, xs, engine=ENGINES[engine], chunk=chunk).ys ** 2))


@pytest.mark.parametrize("engine", TIMES_SMALLER)
@pytest.mark.parametrize("name", TIMES_SMALLER["scan"])
def test_chunks_take_a_fraction_of_the_memory(name, engine):
    cell, params, xs = setting(name)
    whole, chunked = (memory(gradient(cell, engine, chunk), params, xs).temp_size_in_bytes for chunk in (None, 50))
    assert chunked * TIMES_SMALLER[engine][name] < whole, whole / chunked


@pytest.mark.parametrize("name", TIMES_SMALLER["fused"])
def test_factors_take_the_place_of_the_drives(name):
    """Fewer floats than autodiff keeps, by more than the drives."""
    cell, params, xs = setting(name)
    scan, fused = (memory(gradient(cell, engine, None), params, xs).temp_size_in_bytes for engine in ("scan", "fused"))
    gates = cell.drive(params, xs[:1, :1]).shape[-1] // H
    assert fused < scan - 0.9 * gates * SEQUENCE


@pytest.mark.parametrize("lengths", [None, [T, 5, 9, T - 1]], ids=["full", "lengths"])
@pytest.mark.parametrize("taps", [False, True], ids=["", "taps"])
@pytest.mark.parametrize("name", TIMES_SMALLER["fused"])
def test_no_sequence_is_copied_in_a_step(name, taps, lengths):
    cell, params, xs = setting(name)
    zeros = zero_taps(cell, params, T, (B,)) if taps else None

    def loss(params, xs, taps):
        return jnp.sum(unroll(cell, params, xs, taps=taps, lengths=lengths).ys ** 2)

    step = jax.jit(jax.grad(loss, argnums=(0, 2) if taps else 0))
    assert sequence_copies(step.lower(params, xs, zeros).compile().as_text()) == []


WRAPPED = {
    "plain": lambda cell: cell,
    "zoneout": lambda cell: zoneout(cell, h=0.3),
    "highway": highway,
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("name", [name for name, build in CELLS.items() if build(2).local])
def test_nor_is_one_in_any_other_cell_that_is_fused(name, wrapped):
    """A factor that is cheap to compute must not be written over the drive: a ReLU's took four times as long there."""
    dim = H // 2 if name == "lstm_projected" else H  # as wide as its outputs, for a highway
    cell = WRAPPED[wrapped](CELLS[name](H))
    params = cell.init(jax.random.key(0), dim, jnp.float32)
    xs, key = jnp.zeros((T, B, dim), jnp.float32), jax.random.key(1)
    resets = jnp.zeros((T, B), bool)
    step = jax.jit(jax.grad(lambda params: jnp.sum(unroll(cell, params, xs, resets=resets, key=key).ys ** 2)))
    assert sequence_copies(step.lower(params).compile().as_text()) == []


def test_copies_are_found_where_there_are_some():
    assert sequence_copies(jax.jit(copies_every_step).lower(setting("gru")[2]).compile().as_text()) != []


def sequence_copies(text):
    """Copies of T steps of something inside the bodies of loops, in the compiler's own words."""
    bodies = set(re.findall(r"body=%?([\w.-]+)", text))
    parts = re.split(r"\n(?=%?[\w.-]+ \(|ENTRY)", text)
    inside = [part for part in parts if re.match(r"%?([\w.-]+)", part)[1] in bodies]
    return [line for part in inside for line in part.splitlines() if re.search(rf"= f32\[{T},.*\bcopy\(", line)]


def copies_every_step(xs):
    """Writes at one step what it reads at another afterwards: the buffer cannot be written in place."""

    def body(t, state):
        xs, total = state
        written = jax.lax.dynamic_update_index_in_dim(xs, xs[t] + 1, t, 0)
        return written, total + xs[(t + 1) % T].sum() + written[t].sum()

    return jax.lax.fori_loop(0, T, body, (xs, jnp.float32(0)))


@pytest.mark.parametrize("chunk", [None, 50])
def test_carries_not_asked_for_are_not_kept(chunk):
    cell, params, xs = setting("lstm")

    def outputs(params, xs):
        return unroll(cell, params, xs, chunk=chunk).ys

    def everything(params, xs):
        out = unroll(cell, params, xs, chunk=chunk)
        return out.ys, out.carries

    few, all_of_them = (
        one.temp_size_in_bytes + one.output_size_in_bytes
        for one in (memory(outputs, params, xs), memory(everything, params, xs))
    )
    assert few <= all_of_them - 1.75 * SEQUENCE  # h and c, but for the drives of one piece


def test_last_carry_alone_needs_one_chunk():
    cell, params, xs = setting("lstm")
    size = memory(lambda params, xs: unroll(cell, params, xs, chunk=50).last, params, xs)
    assert size.temp_size_in_bytes < SEQUENCE / 4
