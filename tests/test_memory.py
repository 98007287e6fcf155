"""What is kept in memory, as the compiler counts it; nothing here is run or timed."""

import jax
import jax.numpy as jnp
import pytest

from rnnlab.cells import CELLS
from rnnlab.unroll import unroll

T, B, D, H = 4000, 4, 16, 32
SEQUENCE = T * B * H * 4  # bytes of one float32 sequence of states


def memory(function, *args):
    return jax.jit(function).lower(*args).compile().memory_analysis()


def setting(name, dtype=jnp.float32):
    cell = CELLS[name](H)
    params = cell.init(jax.random.key(0), D, dtype)
    return cell, params, jax.random.normal(jax.random.key(1), (T, B, D), dtype)


# Measured on the CPU with JAX 0.10.2: 3.5, 12.2 and 9.4 times. A cell with more gates saves more for its reverse pass;
# the outputs and their gradients stay whatever the chunk, 2 T B H floats.
TIMES_SMALLER = {"elman": 2, "lstm": 7, "gru": 5}


@pytest.mark.parametrize("name", TIMES_SMALLER)
def test_chunks_take_a_fraction_of_the_memory(name):
    cell, params, xs = setting(name)

    def gradient(chunk):
        return jax.grad(lambda params, xs: jnp.sum(unroll(cell, params, xs, chunk=chunk).ys ** 2))

    whole, chunked = (memory(gradient(chunk), params, xs).temp_size_in_bytes for chunk in (None, 50))
    assert chunked * TIMES_SMALLER[name] < whole, whole / chunked


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
    assert few <= all_of_them - 1.9 * SEQUENCE  # h and c


def test_last_carry_alone_needs_one_chunk():
    cell, params, xs = setting("lstm")
    size = memory(lambda params, xs: unroll(cell, params, xs, chunk=50).last, params, xs)
    assert size.temp_size_in_bytes < SEQUENCE / 4
