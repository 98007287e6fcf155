"""float32 and bfloat16 as users run them: the types that come out, and how far they are from float64."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import precision_run
import pytest
import reference

from rnnlab.unroll import unroll

# Relative to the largest entry of each array: a sum's error goes with its terms, not with what they leave.
CLOSE = {"float32": 1e-5, "bfloat16": 5e-2}
H, LENGTHS = precision_run.H, precision_run.LENGTHS

pytestmark = [
    pytest.mark.parametrize("dtype", CLOSE), pytest.mark.parametrize("name", precision_run.FACTORIES),
    pytest.mark.slow,
]  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One process for all cells: starting JAX takes longer than a cell does."""
    path = tmp_path_factory.mktemp("precision") / "results.npz"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_"))}
    root = Path(precision_run.__file__).parents[1]
    command = [sys.executable, "-W", "error", precision_run.__file__, str(path)]
    done = subprocess.run(command, cwd=root, env=clean | {"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(path) as archive:
        return {key: archive[key] for key in archive.files}


def leaves(results, name, dtype, what):
    prefix = f"{name}/{dtype}/{what}/"
    found = {int(key.removeprefix(prefix)): array for key, array in results.items() if key.startswith(prefix)}
    return [found[index].astype(np.float64) for index in range(len(found))]


def near(got, expected, dtype, what, size=None):
    assert len(got) == len(expected) > 0
    for one, other in zip(got, expected, strict=True):
        atol = CLOSE[dtype] * (np.abs(other).max() if size is None else size)
        np.testing.assert_allclose(one, other, rtol=0, atol=atol, err_msg=what)


def test_everything_has_the_type_of_the_parameters(results, name, dtype):
    types = json.loads(str(results["types"]))
    own = {key: kind for key, kind in types.items() if key.startswith(f"{name}/{dtype}/")}
    assert len(own) >= 12
    assert {key: kind for key, kind in own.items() if kind != dtype} == {}


def test_outputs_are_near_the_float64_loop(results, name, dtype):
    cell = precision_run.FACTORIES[name](H)
    params, xs = inputs(results, name, dtype, cell)
    start = jax.tree.map(np.asarray, cell.start(cell.prepare(params), xs.shape[1:2]))
    taps = jax.tree.map(lambda leaf: np.zeros((len(xs), *leaf.shape)), start)
    numpy_params = jax.tree.map(np.asarray, params)
    expected = reference.loop(reference.EQUATIONS[name], numpy_params, xs, start, taps=taps, lengths=LENGTHS)
    for what, tree in expected._asdict().items():
        near(leaves(results, name, dtype, what), jax.tree.leaves(tree), dtype, what)
    near(leaves(results, name, dtype, "rows"), [expected.ys], dtype, "vmap over rows")


def test_gradients_are_near_those_in_float64(results, name, dtype):
    cell = precision_run.FACTORIES[name](H)
    params, xs = inputs(results, name, dtype, cell)
    [along], [ys_weights] = (leaves(results, name, dtype, what) for what in ("along", "ys_weights"))

    def loss(params, xs):
        return (ys_weights * unroll(cell, params, xs, lengths=LENGTHS).ys).sum()

    @jax.jit
    def exact(params, xs):
        grads = jax.grad(loss, argnums=(0, 1))(params, xs)
        slope = lambda xs: (along * jax.grad(loss, argnums=1)(params, xs)).sum()  # noqa: E731
        found = {"grad_params": grads[0], "grad_xs": grads[1], "slope": slope(xs)}
        if cell.local is not None:
            found |= {"plain_grad_params": grads[0], "curvature": jax.grad(slope)(xs)}  # of scan; of the second order
        return found, along * grads[1]

    expected, terms = exact(params, xs)
    for what, tree in expected.items():
        # The slope is a sum of terms of either sign, in which the rounding of each is random.
        size = np.linalg.norm(terms) if what == "slope" else None
        near(leaves(results, name, dtype, what), jax.tree.leaves(tree), dtype, what, size)


def inputs(results, name, dtype, cell):
    """The parameters and inputs that were used, exactly, in float64."""
    tree = jax.tree.structure(jax.eval_shape(lambda: cell.init(jax.random.key(0), precision_run.D, jnp.float64)))
    params = jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in leaves(results, name, dtype, "params")])
    return params, leaves(results, name, dtype, "xs")[0]
