"""The documentation's cell of one's own: every engine, the probes, an experiment, and what goes wrong."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from experiments import gradient_flow
from rnnlab import cli, probes
from rnnlab.cells import own
from rnnlab.engines import diagonal, fused, newton, scan
from rnnlab.errors import InputError
from rnnlab.layers import init_layers, layers
from rnnlab.types import Directions
from rnnlab.unroll import unroll

PAGE = Path(__file__).parents[1] / "docs" / "interface.md"
T, B, D, H = 9, 3, 2, 4


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    path = tmp_path_factory.mktemp("own") / "leaky.py"
    path.write_text(code)
    return path


@pytest.fixture(scope="module")
def cell(file):
    return own.factory(f"{file}:leaky")(H)


def test_it_is_short(file):
    body = file.read_text().split("def leaky")[1].splitlines()[2:]
    assert len([line for line in body if line.strip()]) <= 20


def test_every_engine_takes_it(cell):
    params = cell.init(jax.random.key(0), D, jnp.float64)
    params = params._replace(U=params.U + 0.3 * jax.random.normal(jax.random.key(2), (H, H)))
    xs = jax.random.normal(jax.random.key(1), (T, B, D), jnp.float64)

    def graded(engine, chunk):
        loss = lambda p, xs: (unroll(cell, p, xs, lengths=[9, 0, 4], engine=engine, chunk=chunk).ys ** 2).sum()  # noqa: E731
        return jax.value_and_grad(loss, (0, 1))(params, xs)

    def looped(params, xs):
        total, lengths = 0.0, (9, 0, 4)
        for b, length in enumerate(lengths):
            h = jnp.zeros(H)
            for t in range(length):
                h = 0.9 * h + 0.1 * jnp.tanh(xs[t, b] @ params.W + h @ params.U + params.b)
                total += (h**2).sum()
        return total

    expected = jax.value_and_grad(looped, (0, 1))(params, xs)
    for engine in (scan, fused, newton(), newton(jacobian=diagonal)):
        for chunk in (None, 4):
            close = lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)  # noqa: E731
            jax.tree.map(close, graded(engine, chunk), expected)


def test_stacks_and_probes_take_it(cell):
    stack = (Directions(cell, cell), cell)
    params = init_layers(stack, jax.random.key(0), D, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (T, B, D), jnp.float64)
    assert layers(stack, params, xs).ys.shape == (T, B, H)
    norms = probes.gradient_norms(stack, params, xs, loss=lambda ys: ys[-1].sum(-1))
    assert norms.joint.shape == (3, T, B)
    jacobians = probes.step_jacobians(cell, params[1], jnp.ones((T, 2 * H)))
    assert probes.product_singular_values(jacobians).shape == (T, H)


# As plain as a cell can be: parameters in a dictionary, the carry one array, no derivative by hand.
PLAIN = """
import jax, jax.numpy as jnp
from rnnlab.types import Cell

def plain(hidden):
    return Cell(
        init=lambda key, dim, dtype=jnp.float32: {"W": jax.random.normal(key, (dim, hidden), dtype)},
        start=lambda weights, batch_shape: jnp.zeros((*batch_shape, hidden), weights["W"].dtype),
        drive=lambda weights, xs: xs @ weights["W"],
        step=lambda weights, h, z: 0.9 * h + z,
        read=lambda weights, h, xs: h,
    )
"""
SIZES = dict(hidden=4, length=12, batch=2, seeds=1, first_lag=1)
EXPERIMENTS = {
    "gradient_flow": SIZES | dict(layers=1, steps=2, measurements=1, examples=3, scored=200),
    "cells": SIZES | dict(last_lag=8, seconds=0, rounds=1),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_experiments_take_it_by_a_flag(name, file, tmp_path):
    (tmp_path / "plain.py").write_text(PLAIN)
    flags = EXPERIMENTS[name] | dict(cell=f"gru,{file}:leaky,{tmp_path}/plain.py:plain", runs=tmp_path / "runs")
    command = [name, *(f"--{flag}={value}" for flag, value in flags.items()), "--nocompilation_cache"]
    with jax.numpy_dtype_promotion("standard"):
        assert cli.launch(command, experiments, name) == 0
    [folder] = (tmp_path / "runs").iterdir()
    table = (folder / "table.txt").read_text()
    assert all(re.search(rf"^{label} ", table, flags=re.MULTILINE) for label in ("leaky", "plain"))
    if name == "cells":
        assert re.search(r"^plain +linear, diagonal ", table, flags=re.MULTILINE)


def test_a_changed_file_is_another_run(file):
    name = f"{file}:leaky"
    before = own.sources(["gru", name])
    assert list(before) == [str(file)]
    content = file.read_text()
    file.write_text(content + "\n# changed\n")
    assert own.sources([name]) != before
    file.write_text(content)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["lstmm"], r"cell: expected one of elman, .*, or FILE.py:FACTORY, got 'lstmm'"),
        (["{folder}/no.py:cell"], r"cell: expected a Python file before the colon of '.*no.py:cell', got "),
        (["{file}:wet"], r"cell: expected a function 'wet' in .*leaky.py, \(hidden\) -> Cell, got None"),
        (["{file}:Params"], r"cell: .*:Params cannot make a cell: TypeError"),
        (["{file}:Hidden"], r"cell: expected .*:Hidden to return a rnnlab.types.Cell, got Hidden"),
        (["{folder}/broken.py:cell"], r"cell: .*broken.py cannot be run \(line 2\): SyntaxError"),
        (["{folder}/buggy.py:cell"], r"cell: .*buggy.py:cell cannot make a cell \(line 3\): ZeroDivisionError: "),
        (
            ["{folder}/image.py:cell"],
            r"cell: expected a cell that reads vectors, .*image.py:cell reads inputs of 3 axes",
        ),
        (["gru", "gru"], r"cell: expected every cell once, each by another name, got gru,gru"),
    ],
)
def test_what_is_no_cell_is_named_in_one_line(file, names, words):
    (file.parent / "broken.py").write_text("x = 1\ndef (")
    (file.parent / "image.py").write_text(
        "from rnnlab.cells import conv_lstm\ndef cell(hidden):\n    return conv_lstm(hidden, rows=2, columns=2)\n"
    )
    (file.parent / "buggy.py").write_text("x = 0\ndef cell(hidden):\n    return hidden / x\n")
    names = [name.format(file=file, folder=file.parent) for name in names]
    with pytest.raises(InputError, match=words):
        gradient_flow.inputs(gradient_flow.Config(cell=tuple(names)))
