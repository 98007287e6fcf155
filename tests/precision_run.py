"""Every cell in float32 and bfloat16, in a process as users have it: no x64, JAX's standard promotion.

    python precision_run.py results.npz

Called by test_precision.py, which compares. Arrays are saved in float32 (NumPy has no bfloat16, and
float32 holds all of its values) under `<cell>/<dtype>/<what>`, the types that they had in `types`.
"""

import json
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.cells import CELLS, IMAGE_CELLS
from rnnlab.engines import scan
from rnnlab.unroll import unroll

T, B, D, H = 6, 3, 3, 5
LENGTHS = np.array([6, 2, 5], np.int32)
ROWS, COLUMNS = 2, 3
FACTORIES = CELLS | {name: partial(cell, rows=ROWS, columns=COLUMNS) for name, cell in IMAGE_CELLS.items()}


def measured(cell, dtype):
    """Inputs, outputs and gradients of sum(Wy ys), its slope and curvature along a direction."""
    params = cell.init(jax.random.key(3), D, dtype)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    shifted = [leaf + 0.1 * jax.random.normal(key, leaf.shape, dtype) for leaf, key in zip(leaves, keys, strict=True)]
    params = jax.tree.unflatten(tree, shifted)
    pixels = (ROWS, COLUMNS) if cell.input_rank == 3 else ()
    xs, along = (jax.random.normal(jax.random.key(k), (T, B, *pixels, D), dtype) for k in (7, 11))
    outputs = jax.eval_shape(lambda: unroll(cell, params, xs).ys)
    ys_weights = jax.random.normal(jax.random.key(13), outputs.shape, dtype)

    def loss(params, xs, engine=None):
        out = unroll(cell, params, xs, lengths=LENGTHS, engine=engine)
        return (ys_weights * out.ys).sum(), out

    @jax.jit
    def results(params, xs):
        (_, out), grads = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, xs)
        value = lambda xs: loss(params, xs)[0]  # noqa: E731
        slope = jax.jvp(lambda xs: loss(params, xs, scan)[0], (xs,), (along,))[1]
        single = lambda row, length: unroll(cell, params, row, lengths=length).ys  # noqa: E731
        rows = jax.vmap(single, in_axes=(1, 0), out_axes=1)(xs, jnp.asarray(LENGTHS))
        found = {
            "ys": out.ys, "carries": out.carries, "last": out.last, "rows": rows, "grad_params": grads[0],
            "grad_xs": grads[1], "slope": slope,
        }  # fmt: skip
        if cell.local is None:  # one engine, and its derivatives are JAX's own: spared, for they compile long
            return found
        plain = jax.grad(lambda params: loss(params, xs, scan)[0])(params)
        curvature = jax.grad(lambda xs: (along * jax.grad(value)(xs)).sum())(xs)
        return found | {"plain_grad_params": plain, "curvature": curvature}

    inputs = {"params": params, "xs": xs, "along": along, "ys_weights": ys_weights}
    return inputs | results(params, xs)


def main(path):
    assert not jax.config.jax_enable_x64 and jax.config.jax_numpy_dtype_promotion == "standard"
    arrays, types = {}, {}
    for name, build in FACTORIES.items():
        for dtype in ("float32", "bfloat16"):
            for what, tree in measured(build(H), jnp.dtype(dtype)).items():
                for index, leaf in enumerate(jax.tree.leaves(tree)):
                    key = f"{name}/{dtype}/{what}/{index}"
                    arrays[key], types[key] = np.asarray(leaf, np.float32), str(leaf.dtype)
    np.savez(path, types=json.dumps(types), **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
