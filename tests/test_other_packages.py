"""Linear cells against other people's implementations of them: outputs and all gradients, see archives/README.md."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.scipy.linalg import block_diag

from rnnlab.cells import Hidden, MinGRUParams, MinLSTMParams, RGLRUParams, S5Params, min_gru, min_lstm, rg_lru, s5
from rnnlab.cells.complex import Complex
from rnnlab.cells.minimal_gates import positive
from rnnlab.engines import associative, scan
from rnnlab.types import Cell
from rnnlab.unroll import unroll

NAMES = oracles.case_names("independent")


class Ours(NamedTuple):
    """The same network here. params, start: of their arrays, so that gradients come back under their names."""

    cell: Cell
    params: object
    start: object
    batch_axis: int = 0


def of_s5(meta):
    """They keep all P numbers, and no conjugates: y = Re(C s). B is [P, H, 2], real and imaginary."""

    def params(w):
        halved = jnp.stack([w["C.re"].T, w["C.im"].T]) / 2
        return S5Params(
            decay=jnp.log(-w["Lambda.re"]), frequency=w["Lambda.im"], step=w["log_step"],
            W=jnp.transpose(w["B"], (2, 1, 0)), V=halved, P=jnp.diag(w["D"]),
        )  # fmt: skip

    cell = s5(meta["H"], state=meta["P"], blocks=meta["blocks"])
    return Ours(cell, params, lambda arrays: Complex(arrays["h0.re"], arrays["h0.im"]), batch_axis=1)


def of_minimal(cell, kind, order, meta):
    """One linear map without bias, the candidate first; states are positive."""

    def params(w):
        blocks = jnp.split(w["linear"].T, len(order), axis=-1)
        W = jnp.concatenate([blocks[n] for n in order], axis=-1)
        return kind(W, jnp.zeros(W.shape[-1], W.dtype))

    start = lambda arrays: Hidden(arrays["h0"][:, 0]) if "h0" in arrays else None  # noqa: E731
    return Ours(cell(meta["H"], activation=positive), params, start)


def of_rg_lru(meta):
    """The input is the value; the gates' matrices are block-diagonal; a_param is minus our decay."""

    def params(w):
        gates = [block_diag(*w[f"{gate}.w"]) for gate in ("a_gate", "input_gate")]
        b = jnp.concatenate([w[f"{gate}.b"].ravel() for gate in ("a_gate", "input_gate")])
        return RGLRUParams(jnp.concatenate([*gates, jnp.eye(meta["H"])], axis=-1), b, -w["a_param"])

    return Ours(rg_lru(meta["H"]), params, lambda arrays: Hidden(arrays["h0"]))


KINDS = {
    "s5": of_s5,
    "min_gru": partial(of_minimal, min_gru, MinGRUParams, (1, 0)),
    "min_lstm": partial(of_minimal, min_lstm, MinLSTMParams, (1, 2, 0)),
    "rg_lru": of_rg_lru,
}


def test_there_are_8_cases():
    assert len(NAMES) == 8


@pytest.mark.parametrize("engine", [scan, associative])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_theirs(name, engine):
    meta, arrays = oracles.load("independent", name)
    ours = KINDS[next(kind for kind in KINDS if name.startswith(kind))](meta)
    Gy, y, loss = (arrays[key] for key in ("Gy", "y", "loss"))
    given = {key: jnp.asarray(a) for key, a in arrays.items() if key not in ("Gy", "y", "loss") and key[:2] != "g."}

    @jax.jit
    def graded(given):
        def total(given):
            xs = jnp.moveaxis(given["x"], ours.batch_axis, 1)
            how = {"start": ours.start(given), "engine": engine}
            ys = unroll(ours.cell, ours.params(oracles.under("w.", given)), xs, **how).ys
            ys = jnp.moveaxis(ys, 1, ours.batch_axis)
            return (Gy * ys).sum(), ys

        return jax.value_and_grad(total, has_aux=True)(given)

    (got, ys), grads = graded(given)
    close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10)
    close(ys, y)
    close(got, loss)
    expected = oracles.under("g.", arrays)
    assert set(grads) == set(expected)
    for key, grad in grads.items():
        assert np.abs(expected[key]).max() > 1e-3
        close(grad, expected[key], err_msg=key)
