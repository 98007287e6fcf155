"""Rows that hold one way of differentiating, or of running, against another: taps, log-domain, RTRL, engines.

A function a row: its specification -> its checked numbers. Run with float64 on.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments._closed_forms_check import Check, absolute, at_most, far, of_seed
from experiments._closed_forms_exact import linear
from rnnlab import initializers as inits
from rnnlab import probes
from rnnlab.cells import CELLS, elman, gru, lstm
from rnnlab.engines import associative, newton, scan
from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.probes.specs import Spec
from rnnlab.unroll import unroll

# R2: the same recursion, written out with dense matrices in NumPy.


def r2(spec: Spec) -> list[Check]:
    H, dtypes = spec.setting["H"], (jnp.float64, jnp.float32)
    stacks = {name: (CELLS[name](H),) for name in CELLS} | {"stack": r2_stack(spec)}
    return [
        r2_taps(spec, cells, seed, dtype, name)
        for dtype in dtypes
        for name, cells in stacks.items()
        for seed in spec.seeds
    ]


def r2_stack(spec: Spec) -> tuple:
    """Layers of different widths, one of two carries."""
    H = spec.setting["H"]
    stack = CELLS["elman"](H + 1), CELLS["lstm"](H - 1), CELLS["gru"](H)
    if len(stack) != spec.setting["layers"]:
        raise ValueError(f"R2: expected a stack of {spec.setting['layers']} layers, got {len(stack)}")
    return stack


def local_loss(ys, weights):
    """Each example's own loss: nonlinear, different at every step, summed over the steps."""
    return (weights * jnp.sin(ys)).sum((0, -1))


class LayerJacobians(NamedTuple):
    """Of one layer at every step, carries ravelled: J = dcarry_t/dcarry_{t-1}, K = dcarry_t/dx_t, R = dy_t/dcarry_t."""

    J: np.ndarray
    K: np.ndarray
    R: np.ndarray


def layer_jacobians(cell, params, xs):
    out, weights, start = unroll(cell, params, xs), cell.prepare(params), cell.start(cell.prepare(params), ())
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), start, out.carries)
    _, unravel = ravel_pytree(start)
    flat = jax.vmap(lambda carry: ravel_pytree(carry)[0])
    step = lambda x, s: ravel_pytree(cell.step(weights, unravel(s), cell.drive(weights, x)))[0]  # noqa: E731
    read = lambda s, x: cell.read(weights, unravel(s), x)  # noqa: E731
    J = probes.step_jacobians(cell, params, xs)
    K = jax.vmap(jax.jacfwd(step))(xs, flat(before))
    R = jax.vmap(jax.jacfwd(read))(flat(out.carries), xs)
    return LayerJacobians(J, K, R), out.ys


@partial(jax.jit, static_argnums=0)
def taps_and_jacobians(cells, params, xs, weights):
    """Of every layer the taps' gradients, ravelled [T B S], and its Jacobians [B T ...]; the outputs [B T H]."""
    T, B, _ = xs.shape
    loss = lambda taps: local_loss(layers(cells, params, xs, taps=taps).ys, weights).sum()  # noqa: E731
    stack, ys = [], jnp.swapaxes(xs, 0, 1)
    for cell, p in zip(cells, params, strict=True):
        jacobians, ys = jax.vmap(partial(layer_jacobians, cell, p))(ys)
        stack.append(jacobians)
    pulled = jax.grad(loss)(zero_taps(cells, params, T, (B,)))
    return [jax.vmap(jax.vmap(lambda carry: ravel_pytree(carry)[0]))(layer) for layer in pulled], stack, ys


def explicit_adjoint(stack: Sequence[LayerJacobians], dys: np.ndarray) -> list[np.ndarray]:
    """dL/dcarry_t of every layer of one sequence [T, S]: from the last step to the first, top layer first."""
    deltas = []
    for J, K, R in reversed(stack):
        delta, rows = np.zeros_like(J[0, 0]), []
        for t in reversed(range(len(J))):
            delta = (J[t + 1].T @ delta if t + 1 < len(J) else delta) + R[t].T @ dys[t]
            rows.append(delta)
        deltas.append(np.stack(rows[::-1]))
        dys = np.einsum("tsd,ts->td", K, deltas[-1])  # what this layer adds to the outputs of the one below
    return deltas[::-1]


def r2_taps(spec: Spec, cells: Sequence, seed: int, dtype: Any, name: str) -> Check:
    """The largest error of a delta, over its norm, of all layers, rows and steps."""
    T, B, D = (spec.setting[name] for name in "TBD")
    key, draw, weigh = jax.random.split(jax.random.key(seed), 3)
    params = init_layers(cells, key, D, dtype)
    xs = jax.random.normal(draw, (T, B, D), dtype)
    outputs = jax.eval_shape(lambda: layers(cells, params, xs).ys)
    weights = jax.random.normal(weigh, outputs.shape, dtype)

    pulled, stack, ys = jax.tree.map(np.asarray, taps_and_jacobians(tuple(cells), params, xs, weights))
    errors = []
    for b in range(B):
        of_row = [LayerJacobians(*(part[b] for part in layer)) for layer in stack]
        expected = explicit_adjoint(of_row, np.asarray(weights[:, b]) * np.cos(ys[b]))
        for layer, want in zip(pulled, expected, strict=True):
            if not layer.dtype == want.dtype == dtype:
                raise TypeError(f"{name}: expected taps of {np.dtype(dtype)}, got {layer.dtype} beside {want.dtype}")
            errors.append(np.linalg.norm(layer[:, b] - want, axis=1) / np.linalg.norm(want, axis=1))
    kind = np.dtype(dtype).name
    normed = "_normed" if kind == "float32" and name in spec.setting["normed"] else ""
    [check] = of_seed(seed, far(f"delta_t, {kind}", name, np.concatenate(errors), spec.tolerance[kind + normed]))
    return check


# R13


class Vanishing(NamedTuple):
    """Lag first. logs: log-domain norms [T B] less ln ||c||. pulled: taps' gradients [T B H]. largest: of |c|."""

    logs: np.ndarray
    pulled: np.ndarray
    largest: float


def r13(spec: Spec) -> list[Check]:
    return [check for gain in spec.setting["gains"] for check in r13_gain(spec, gain)]


def r13_gain(spec: Spec, gain: float) -> list[Check]:
    """The logarithms at every lag; and where floats of 32 bits end, which is what the row is about."""
    found, T, setting = vanishing(spec, gain), spec.setting["T"], f"g = {gain:g}"
    expected = np.array([spec.expected["log_norm"](gain, k) for k in range(T)])[:, None]
    checks = [absolute("ln of gradient norm, float32", setting, expected, found.logs, spec.tolerance["log_norm"])]
    if gain < 1:
        naive = np.asarray(jnp.sqrt(jnp.sum(found.pulled * found.pulled, -1)))
        ends = {"naive_zero": naive == 0, "tap_zero": np.abs(found.pulled).max(-1) == 0}
    else:
        ends = {"tap_infinite": ~np.isfinite(found.pulled).all(-1)}
    words = dict(naive_zero="lags until a naive norm is 0", tap_zero="lags until taps are 0",
                 tap_infinite="lags until taps overflow")  # fmt: skip
    for name, gone in ends.items():
        # The first lag at which any row is gone, and the first from which on all are.
        lags = [np.argmax(gone.any(1)) if gone.any() else T, T - np.argmin(gone.all(1)[::-1])]
        checks.append(absolute(words[name], setting, spec.expected[name](found.largest), lags, spec.tolerance["lags"]))
    return checks


def vanishing(spec: Spec, gain: float) -> Vanishing:
    T, H, B = (spec.setting[name] for name in "THB")
    cell = linear(H, gain)
    params = cell.init(jax.random.key(0), 2, jnp.float32)
    cotangent = jax.random.normal(jax.random.key(2), (B, H), jnp.float32)
    xs = jnp.zeros((T, B, 2), jnp.float32)  # so that states at a gain of 2 are finite; no Jacobian depends on them
    loss = lambda ys: (ys[-1] * cotangent).sum(-1)  # noqa: E731
    taps = zero_taps(cell, params, T, (B,))
    pulled = jax.jit(jax.grad(lambda taps: loss(unroll(cell, params, xs, taps=taps).ys).sum()))(taps).h[::-1]
    norms = jax.jit(lambda xs: probes.log_gradient_norms(cell, params, xs, loss))(xs)
    for logs in (norms.joint, norms.parts[0].h):
        if logs.dtype != jnp.float32:
            raise TypeError(f"R13: expected norms of float32, got {logs.dtype}")
    both = np.stack([norms.joint[0], norms.parts[0].h]).astype(float)[:, ::-1]
    ratio = both - np.log(np.linalg.norm(np.asarray(cotangent, float), axis=-1))
    return Vanishing(np.concatenate(ratio, axis=-1), np.asarray(pulled), float(jnp.abs(cotangent).max()))


# R16


def r16(spec: Spec) -> list[Check]:
    forward = [check for name in spec.setting["rtrl"] for check in r16_forward(spec, name)]
    return [*forward, *(r16_hessian(spec, name) for name in spec.setting["hessian"])]


def problem(spec: Spec, name: str, seed: int) -> tuple[Any, ...]:
    """A cell with random parameters (biases too), inputs, and a loss that looks at every output."""
    T, B, D, H = (spec.setting[name] for name in "TBDH")
    cells = (CELLS[name](H),)
    key, draw, weigh = jax.random.split(jax.random.key(seed), 3)
    flat, unravel = ravel_pytree(init_layers(cells, key, D, jnp.float64))
    xs, flat = jax.random.normal(draw, (T, B, D)), flat + 0.1 * jax.random.normal(key, flat.shape)
    width = jax.eval_shape(lambda: layers(cells, unravel(flat), xs).ys).shape[-1]
    weights = jax.random.normal(weigh, (T, B, width))
    return cells, flat, unravel, xs, lambda ys: (weights * jnp.sin(ys)).sum((0, -1))


def r16_forward(spec: Spec, name: str) -> list[Check]:
    [seed] = spec.seeds
    cells, flat, unravel, xs, loss = problem(spec, name, seed)
    how, T = dict(lengths=np.array(spec.setting["lengths"])), spec.setting["T"]

    @jax.jit
    def found(flat):
        params = unravel(flat)
        forward = probes.rtrl(cells, params, xs, loss, **how).grads
        lags = probes.lag_gradients(cells, params, xs, loss, T, **how)
        truncated = jax.tree.map(lambda g: g.sum(0), lags)
        bptt = jax.grad(lambda params: loss(layers(cells, params, xs, **how).ys).mean())(params)
        return [ravel_pytree(one)[0] for one in (bptt, forward, truncated)]

    bptt, forward, truncated = found(flat)
    return [
        far("RTRL = BPTT", name, _apart(forward, bptt), spec.tolerance["rtrl"]),
        far("BPTT truncated at T = BPTT", name, _apart(truncated, bptt), spec.tolerance["truncated"]),
    ]


def r16_hessian(spec: Spec, name: str) -> Check:
    [seed] = spec.seeds
    cells, flat, unravel, xs, each = problem(spec, name, seed)
    how, step = dict(lengths=np.array(spec.setting["lengths"])), spec.setting["step"]
    v = jax.random.normal(jax.random.key(seed + 1), flat.shape)
    loss = lambda flat: each(layers(cells, unravel(flat), xs, **how).ys).mean()  # noqa: E731
    slope = jax.grad(loss)
    product, above, below = jax.jit(
        lambda flat: (probes.hessian_product(loss, flat, v), slope(flat + step * v), slope(flat - step * v))
    )(flat)
    error = _apart(product, (above - below) / (2 * step))
    return far("Hessian product = differences", name, error, spec.tolerance["hessian"])


def _apart(found: Any, expected: Any) -> float:
    """The distance of two vectors over the expected one's norm."""
    return float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))


# R17 and R18: engines.


def r17(spec: Spec) -> list[Check]:
    names = [name for name in CELLS if CELLS[name](spec.setting["H"]).affine is not None]
    return [r17_engines(spec, name, dtype) for dtype in (jnp.float64, jnp.float32) for name in names]


def r17_engines(spec: Spec, name: str, dtype: Any) -> Check:
    """Outputs, carries and gradients, each over its largest entry."""
    T, B, D, H = (spec.setting[name] for name in "TBDH")
    [seed] = spec.seeds
    cell = CELLS[name](H)
    key, move, draw, weigh = jax.random.split(jax.random.key(seed), 4)
    flat, unravel = ravel_pytree(cell.init(key, D, dtype))
    params = unravel(flat + jax.random.normal(move, flat.shape, dtype) / 4)
    xs = jax.random.normal(draw, (T, B, D), dtype)
    outputs = jax.eval_shape(lambda: unroll(cell, params, xs).ys)
    weights = jax.random.normal(weigh, outputs.shape, dtype)

    @partial(jax.jit, static_argnums=0)
    def graded(engine, params, xs):
        def loss(params, xs):
            out = unroll(cell, params, xs, engine=engine)
            return (weights * out.ys).sum(), (out.ys, out.carries)

        return jax.grad(loss, (0, 1), has_aux=True)(params, xs)

    error = _largest_apart(graded(associative, params, xs), graded(scan, params, xs))
    kind = np.dtype(dtype).name
    return far(f"associative = scan, {kind}", name, error, spec.tolerance[kind])


def r18(spec: Spec) -> list[Check]:
    return [
        check
        for name in spec.setting["cells"]
        for size in spec.setting["sizes"]
        for seed in spec.seeds
        for check in r18_newton(spec, name, size, seed)
    ]


def r18_newton(spec: Spec, name: str, size: int, seed: int) -> list[Check]:
    uniform = dict(kernel=inits.uniform(), recurrent=inits.uniform(), bias=inits.uniform())
    cell = {"elman": elman, "gru": gru, "lstm": partial(lstm, forget_bias=0.0)}[name](size, **uniform)
    T, B, D = (spec.setting[name] for name in "TBD")
    init, draw = jax.random.split(jax.random.key(seed))
    params, xs = cell.init(init, D, jnp.float32), jax.random.normal(draw, (T, B, D), jnp.float32)

    def graded(engine):
        def loss(params, xs):
            out = unroll(cell, params, xs, engine=engine)
            return (jnp.sin(out.ys) ** 2).sum(), out

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, xs)

    (slopes, expected), (got, out) = graded(scan), graded(newton())
    pairs = zip(jax.tree.leaves(out.carries), jax.tree.leaves(expected.carries), strict=True)
    apart, setting = max(float(jnp.abs(one - other).max()) for one, other in pairs), f"{name}, H = {size}"
    return of_seed(
        seed,
        at_most("iterations", setting, spec.expected["iterations"], out.info.iterations),
        far("states", setting, apart, spec.tolerance["states"]),
        far("gradients", setting, _largest_apart(got, slopes), spec.tolerance["gradients"]),
    )


def _largest_apart(found: Any, expected: Any) -> float:
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(float(jnp.abs(one - other).max() / jnp.abs(other).max()) for one, other in pairs)
