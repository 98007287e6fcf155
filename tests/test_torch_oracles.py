"""Stacks, directions, projections, lengths, taps and second derivatives against PyTorch's results."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from oracles import TorchNet

from rnnlab.engines import fused, scan
from rnnlab.layers import layers, zero_taps
from rnnlab.probes import log_norms, step_jacobians

CASES = oracles.case_names("torch")
WAYS = {"scan": {"engine": scan}, "fused": {"engine": fused}, "chunk": {"engine": scan}}
CLOSE = {"float64": {"rtol": 1e-8, "atol": 1e-9}, "float32": {"rtol": 1e-3, "atol": 1e-4}}
# Norms reach 1e-15, where an absolute tolerance would pass anything.
CLOSE_NORMS = {"float64": {"rtol": 1e-6, "atol": 0}, "float32": {"rtol": 1e-3, "atol": 1e-6}}


def test_there_are_100_cases():
    assert len(CASES) == 100


# Each engine compiles every stack anew, and little else takes time: what the conformance suite has too is slow.
each_way = pytest.mark.parametrize("way", ["scan", "fused", pytest.param("chunk", marks=pytest.mark.slow)])


@each_way
@pytest.mark.parametrize("name", CASES)
def test_case(name, way):
    """Compilations are what takes time here. So that cases share them, full-length rows are given their length
    where the stack is deep or chunked, and all but the first way run float32 cases in float64."""
    meta, arrays = oracles.load("torch", name)
    first_way = way == next(iter(WAYS))
    dtype = meta["dtype"] if first_way else "float64"
    masked = "lengths" in arrays or meta["layers"] == 3 or not first_way
    got = _results(oracles.torch_net(meta), way)(*_inputs(arrays, masked=masked, dtype=dtype))
    for key, value in got.items():
        close = CLOSE_NORMS if key.startswith("dh_norm") else CLOSE
        assert value.dtype == dtype, key
        np.testing.assert_allclose(value, arrays[key], **close[meta["dtype"]], err_msg=key)
    asked = {"loss", "y", "hn", "cn", "hs", "cs", "dh", "dc_carry", "dh_norm", "dh_norm_b"}
    asked = {key for key in arrays if key in asked or key.startswith("g.")}
    assert asked == set(got), f"not compared: {asked - set(got)}"


@pytest.mark.parametrize("name", [name for name in CASES if "J_first_to_last" in oracles.load("torch", name).arrays])
def test_first_to_last_jacobians(name):
    """Products of step Jacobians, each layer by itself: its inputs are held, as the archive has them."""
    meta, arrays = oracles.load("torch", name)
    net = oracles.torch_net(meta)
    weights = jax.tree.map(jnp.asarray, oracles.under("w.", arrays))
    params, cells = oracles.torch_params(net, weights), oracles.torch_cells(net)
    start = oracles.torch_carries(net, arrays["h0"], arrays.get("c0"))
    for index, expected in enumerate(arrays["J_first_to_last"]):
        layer, direction = divmod(index, net.directions)
        own = lambda tree: tree[layer][direction] if net.directions == 2 else tree[layer]  # noqa: B023, E731
        below = arrays["hs"].reshape(net.layers, net.directions, meta["T"], meta["B"], -1)[layer - 1]
        xs = np.concatenate(below, axis=-1) if layer else arrays["x"]
        xs = xs[::-1] if direction else xs
        one_row = partial(step_jacobians, own(cells), own(params))
        steps = np.asarray(jax.jit(jax.vmap(one_row, in_axes=(1, 0)))(xs, own(start)))
        for row in range(meta["B"]):
            product = np.linalg.multi_dot(steps[row, ::-1])
            np.testing.assert_allclose(product, expected[row], **CLOSE["float64"], err_msg=f"layer {layer}, row {row}")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "name", [name for name in CASES if any(key.startswith("hvp.") for key in oracles.load("torch", name).arrays)]
)
def test_hessian_vector_products(name, way):
    meta, arrays = oracles.load("torch", name)
    net = oracles.torch_net(meta)
    weights, *rest = _inputs(arrays, masked=False)
    along = oracles.under("hvp.v.", arrays)

    def slope(weights):
        grads = jax.grad(lambda w: _forward(net, way, w, *rest, taps=None)[0])(weights)
        return sum(jnp.vdot(grads[key], along[key]) for key in along)

    got = jax.jit(jax.grad(slope))(weights)
    for key, value in got.items():
        np.testing.assert_allclose(value, arrays[f"hvp.{key}"], **CLOSE["float64"], err_msg=key)


def _inputs(arrays, *, masked: bool, dtype: str = "float64"):
    """weights, x, {h, c} at the start, lengths, {y, h, c} in the loss; `masked` gives full cases lengths of T."""
    length, batch = arrays["x"].shape[:2]
    lengths = arrays.get("lengths", np.full(batch, length)) if masked else None
    first = {leaf: arrays[f"{leaf}0"] for leaf in "hc" if f"{leaf}0" in arrays}
    loss_weights = {leaf: arrays[f"G{leaf}"] for leaf in "yhc" if f"G{leaf}" in arrays}
    cast = lambda tree: jax.tree.map(lambda a: a.astype(dtype), tree)  # noqa: E731
    return cast(oracles.under("w.", arrays)), cast(arrays["x"]), cast(first), lengths, cast(loss_weights)


def _forward(net: TorchNet, way: str, weights, x, first, lengths, loss_weights, *, taps):
    # 3 leaves a shorter piece at the end of 7, which is as much again to compile: deep stacks do without.
    chunk = (3 if net.layers == 1 else 1) if way == "chunk" else None
    params = oracles.torch_params(net, weights)
    start = oracles.torch_carries(net, first["h"], first.get("c"))
    out = layers(oracles.torch_cells(net), params, x, start=start, taps=taps, lengths=lengths, chunk=chunk, **WAYS[way])
    last = oracles.stacked(net, out.last)
    loss = jnp.vdot(loss_weights["y"], out.ys) + sum(jnp.vdot(loss_weights[leaf], last[leaf]) for leaf in last)
    return loss, (out, last)


@cache
def _results(net: TorchNet, way: str):
    """Everything that an archive holds of the loss, its states and its gradients, under the archive's keys."""

    def results(weights, x, first, lengths, loss_weights):
        def loss(weights, x, first, taps):
            return _forward(net, way, weights, x, first, lengths, loss_weights, taps=taps)

        taps = zero_taps(oracles.torch_cells(net), oracles.torch_params(net, weights), x.shape[0], x.shape[1:2])
        graded = jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)
        (value, (out, last)), (g_weights, g_x, g_first, g_taps) = graded(weights, x, first, taps)
        carries, pulled = oracles.stacked(net, out.carries), oracles.stacked(net, g_taps)
        if lengths is not None:  # the archive has 0 at padding, where our carries are held
            keep = (jnp.arange(x.shape[0])[:, None] < lengths)[..., None]
            carries = jax.tree.map(lambda c: jnp.where(keep, c, jnp.zeros_like(c)), carries)
        log_dh = jnp.stack([carry.h for carry in log_norms(g_taps, 1).parts])
        got = {"loss": value, "y": out.ys, "hn": last["h"], "hs": carries["h"], "dh": pulled["h"]}
        if net.cell == "lstm":
            got |= {"cn": last["c"], "cs": carries["c"], "dc_carry": pulled["c"]}
        got |= {"dh_norm_b": jnp.exp(log_dh), "dh_norm": jnp.exp(jax.nn.logsumexp(2 * log_dh, axis=-1) / 2)}
        got |= {f"g.w.{key}": grad for key, grad in g_weights.items()} | {"g.x": g_x}
        return got | {f"g.{leaf}0": grad for leaf, grad in g_first.items()}

    return jax.jit(results)
