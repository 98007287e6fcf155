"""The peers of `throughput`: one training step or inference in each library, of the same sizes, ready to be timed.

All in float32. Programs of JAX are compiled ahead of time; libraries are imported when they are asked for, so that one
that is not installed is a row that says so. Where a library's cell is not quite ours: haiku's Elman cell has a ReLU and
its GRU resets before the product, keras has the batch first, and LSTM gates differ in their order.
"""

import os
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments._work import Work, cores
from rnnlab.cells import CELLS
from rnnlab.engines import scan
from rnnlab.layers import init_layers, layers


class Absent(Exception):
    """Why a peer has no time, in words for the table."""


class Ready(NamedTuple):
    """call: does the work; what it returns is waited for. compile_seconds: tracing and compiling, None where nothing
    is compiled. temporaries: bytes of the compiled program's own buffers, or None."""

    call: Callable[[], Any]
    compile_seconds: float | None = None
    temporaries: int | None = None


def prepare(peer: str, work: Work, xs: np.ndarray, lengths: np.ndarray | None = None) -> Ready:
    """Raises Absent where the library is not installed, or has no such cell or no lengths."""
    try:
        return PEERS[peer](work, xs, lengths)
    except ImportError as error:
        raise Absent("not installed") from error


def version(peer: str) -> str | None:
    """Of the package that a peer comes from; None for our own."""
    return metadata.version(PACKAGES[peer]) if peer in PACKAGES else None


def compiled(mode: str, apply: Callable, *arguments: Any) -> Ready:
    """apply: (params, xs, ...) -> outputs."""

    def total(*arguments: Any) -> jax.Array:
        return apply(*arguments).mean()

    return ahead_of_time(apply if mode == "infer" else jax.value_and_grad(total, (0, 1)), *arguments)


def ahead_of_time(function: Callable, *arguments: Any) -> Ready:
    began = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - began
    return Ready(lambda: program(*arguments), seconds, program.memory_analysis().temp_size_in_bytes)


def widths(work: Work) -> list[int]:
    """Features that each layer reads."""
    return [work.shape.dim] + [work.shape.hidden] * (work.layers - 1)


def no_lengths(lengths: np.ndarray | None) -> None:
    if lengths is not None:
        raise Absent("not compared on ragged batches")


# Ours.


def stack_of(work: Work) -> tuple[tuple, tuple]:
    """Cells and their parameters, float32."""
    stack = (CELLS[work.cell](work.shape.hidden),) * work.layers
    return stack, init_layers(stack, jax.random.key(0), work.shape.dim, jnp.float32)


def rnnlab(work: Work, xs: np.ndarray, lengths: np.ndarray | None, engine: Callable | None = None) -> Ready:
    stack, params = stack_of(work)

    def apply(params, xs, lengths):
        return layers(stack, params, xs, lengths=lengths, engine=engine).ys

    return compiled(work.mode, apply, params, jnp.asarray(xs), None if lengths is None else jnp.asarray(lengths))


def plain_scan(work: Work, xs: np.ndarray, lengths: np.ndarray | None) -> Ready:
    return rnnlab(work, xs, lengths, engine=scan)


def devices(work: Work, xs: np.ndarray, lengths: np.ndarray | None) -> Ready:
    """The batch over all devices of this process. One mean over devices, of the loss and the parameters' gradients in
    one vector; gradients of the inputs stay where the inputs are."""
    no_lengths(lengths)
    found = jax.devices()
    if len(found) == 1:
        raise Absent("JAX has one device")
    if work.shape.batch % len(found):
        raise Absent(f"a batch of {work.shape.batch} cannot be split over {len(found)} devices")
    stack, params = stack_of(work)
    mesh, whole, split = Mesh(np.array(found), ("batch",)), PartitionSpec(), PartitionSpec(None, "batch")

    def infer(params, xs):
        return layers(stack, params, xs).ys

    def train(params, xs):
        loss, (grads, dxs) = jax.value_and_grad(lambda params, xs: infer(params, xs).mean(), (0, 1))(params, xs)
        flat, back = ravel_pytree((loss, grads))
        loss, grads = back(jax.lax.pmean(flat, "batch"))
        return loss, (grads, dxs / len(found))

    function, out = (train, (whole, (whole, split))) if work.mode == "train" else (infer, split)
    function = jax.shard_map(function, mesh=mesh, in_specs=(whole, split), out_specs=out, check_vma=False)
    placed = jax.device_put((params, xs), (NamedSharding(mesh, whole), NamedSharding(mesh, split)))
    return ahead_of_time(function, *placed)


# Theirs, on JAX.


def linen(work: Work, xs: np.ndarray, lengths: np.ndarray | None) -> Ready:
    """Its RNN uses seq_lengths for the last carry alone, so outputs at padding are set to 0 by hand."""
    from flax import linen as nn

    cell = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "elman": nn.SimpleCell}[work.cell]
    modules = [nn.RNN(cell(work.shape.hidden), time_major=True) for _ in range(work.layers)]
    params = [
        module.init(jax.random.key(n), jnp.zeros((1, 1, dim), jnp.float32))
        for n, (module, dim) in enumerate(zip(modules, widths(work), strict=True))
    ]

    def apply(params, xs, lengths):
        for module, p in zip(modules, params, strict=True):
            xs = module.apply(p, xs, seq_lengths=lengths)
        if lengths is None:
            return xs
        real = jnp.arange(len(xs), dtype=lengths.dtype)[:, None] < lengths
        return jnp.where(real[..., None], xs, jnp.zeros_like(xs))

    return compiled(work.mode, apply, params, jnp.asarray(xs), None if lengths is None else jnp.asarray(lengths))


def nnx(work: Work, xs: np.ndarray, lengths: np.ndarray | None) -> Ready:
    from flax import nnx as lib

    no_lengths(lengths)
    cell = {"lstm": lib.OptimizedLSTMCell, "gru": lib.GRUCell, "elman": lib.SimpleCell}[work.cell]
    rngs = lib.Rngs(0)
    modules = [lib.RNN(cell(dim, work.shape.hidden, rngs=rngs), time_major=True, rngs=rngs) for dim in widths(work)]
    split = [lib.split(module, lib.Param, ...) for module in modules]

    def apply(params, xs, others):
        for (graph, _, _), p, other in zip(split, params, others, strict=True):
            xs = lib.merge(graph, p, other, copy=True)(xs)
        return xs

    return compiled(work.mode, apply, [one[1] for one in split], jnp.asarray(xs), [one[2] for one in split])


def haiku(work: Work, xs: np.ndarray, lengths: np.ndarray | None) -> Ready:
    import haiku as hk

    no_lengths(lengths)
    cell = {"lstm": hk.LSTM, "gru": hk.GRU, "elman": hk.VanillaRNN}[work.cell]

    def forward(xs):
        for _ in range(work.layers):
            core = cell(work.shape.hidden)
            start = jax.tree.map(lambda leaf: leaf.astype(xs.dtype), core.initial_state(xs.shape[1]))  # noqa: B023
            xs, _ = hk.dynamic_unroll(core, xs, start)
        return xs

    model = hk.without_apply_rng(hk.transform(forward))
    return compiled(work.mode, model.apply, model.init(jax.random.key(0), jnp.asarray(xs[:1, :1])), jnp.asarray(xs))


def equinox(work: Work, xs: np.ndarray, lengths: np.ndarray | None) -> Ready:
    """Its cells are of one row and one step: vmap over the batch and scan over time, as its documentation does."""
    import equinox as eqx

    no_lengths(lengths)
    if work.cell == "elman":
        raise Absent("has no such cell")
    cell = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[work.cell]
    keys = jax.random.split(jax.random.key(0), work.layers)
    stack = [cell(d, work.shape.hidden, dtype=jnp.float32, key=k) for d, k in zip(widths(work), keys, strict=True)]

    def apply(stack, xs):
        zeros = jnp.zeros((work.shape.batch, work.shape.hidden), xs.dtype)
        for one in stack:

            def step(state, x, one=one):
                state = jax.vmap(one)(x, state)
                return state, state[0] if work.cell == "lstm" else state

            xs = jax.lax.scan(step, (zeros, zeros) if work.cell == "lstm" else zeros, xs)[1]
        return xs

    return compiled(work.mode, apply, stack, jnp.asarray(xs))


def keras(work: Work, xs: np.ndarray, lengths: np.ndarray | None) -> Ready:
    """On JAX; its layers want [B, T, D], and are given it."""
    no_lengths(lengths)
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras as lib

    if lib.backend.backend() != "jax":
        raise Absent(f"runs on {lib.backend.backend()}, not on JAX (KERAS_BACKEND)")
    layer = {"lstm": lib.layers.LSTM, "gru": lib.layers.GRU, "elman": lib.layers.SimpleRNN}[work.cell]
    B, T, D, H = work.shape
    model = lib.Sequential(
        [lib.Input((T, D), batch_size=B), *(layer(H, return_sequences=True) for _ in range(work.layers))]
    )
    trained, fixed = ([v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables))

    def apply(params, xs, fixed):
        return model.stateless_call(params, fixed, xs)[0]

    return compiled(work.mode, apply, trained, jnp.asarray(xs.swapaxes(0, 1)), fixed)


# Theirs, on their own.


def torch(work: Work, xs: np.ndarray, lengths: np.ndarray | None, threads: int = cores()) -> Ready:
    """torch.nn, on cuDNN where JAX has a GPU too; lengths as packed sequences, padded again as ours are."""
    import torch as lib

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    if device == "cuda" and not lib.cuda.is_available():
        raise Absent("installed without CUDA, while JAX runs on a GPU")
    if device == "cuda" and threads < cores():
        raise Absent("is for a CPU")
    module = {"lstm": lib.nn.LSTM, "gru": lib.nn.GRU, "elman": lib.nn.RNN}[work.cell]
    model = module(work.shape.dim, work.shape.hidden, num_layers=work.layers).to(device)
    given = lib.from_numpy(xs).to(device)
    pack, pad = lib.nn.utils.rnn.pack_padded_sequence, lib.nn.utils.rnn.pad_packed_sequence
    wait = lib.cuda.synchronize if device == "cuda" else lambda: None

    def outputs(xs):
        if lengths is None:
            return model(xs)[0]
        packed = pack(xs, lib.from_numpy(lengths).long(), enforce_sorted=False)
        return pad(model(packed)[0], total_length=work.shape.steps)[0]

    def train():
        lib.set_num_threads(threads)
        model.zero_grad(set_to_none=True)
        xs = given.detach().requires_grad_()
        loss = outputs(xs).mean()
        loss.backward()
        wait()
        return loss.detach(), ([p.grad for p in model.parameters()], xs.grad)

    def infer():
        lib.set_num_threads(threads)
        with lib.inference_mode():
            found = outputs(given)
        wait()
        return found

    return Ready(train if work.mode == "train" else infer)


def torch_single(work: Work, xs: np.ndarray, lengths: np.ndarray | None) -> Ready:
    """On one thread. torch's threads wait for each other by spinning: where two of them come to share a core, which an
    otherwise idle machine was seen to do for minutes, a step takes a hundred times longer than on one."""
    if cores() == 1:
        raise Absent("is torch, on one core")
    return torch(work, xs, lengths, threads=1)


# In the order of a round. torch's threads spin for a moment after its work, so what runs next are itself on one thread
# and the plain scan, which is no peer but where we come from.
PEERS = {
    "rnnlab": rnnlab,
    "devices": devices,
    "linen": linen,
    "nnx": nnx,
    "haiku": haiku,
    "equinox": equinox,
    "keras": keras,
    "torch": torch,
    "torch_single": torch_single,
    "scan": plain_scan,
}
JAX_PEERS = ("linen", "nnx", "haiku", "equinox", "keras")
PACKAGES = {
    "linen": "flax", "nnx": "flax", "haiku": "dm-haiku", "equinox": "equinox", "keras": "keras", "torch": "torch",
    "torch_single": "torch",
}  # fmt: skip
