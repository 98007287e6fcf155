"""A cell as a module of flax.nnx."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Shaped

from rnnlab.noise import quiet
from rnnlab.types import Cell, PyTree


class NNXCell(nnx.RNNCellBase):
    """A cell as one step of nnx, for `nnx.RNN(NNXCell(lstm(64), dim, rngs=rngs))` and `nnx.Bidirectional`.

    dim: D, the features of an input. rngs: its stream `params` draws the parameters. Its one variable, `weights`, is an
    nnx.Param that holds the cell's own NamedTuple, so parameters pass from here to `unroll` and back as they are.
    param_dtype: of the parameters and the state; give inputs of that type.

    A noisy cell (`rnnlab.noise`) is its expectation here.

    The price against `unroll`: drive, `prepare` and read in every step (a matrix exponential T times), autodiff and
    not the local derivatives, and the carries of all steps twice where lengths and the last carry are asked for.
    """

    def __init__(self, cell: Cell, dim: int, *, param_dtype: Any = jnp.float32, rngs: nnx.Rngs):
        self.cell = nnx.static(quiet(cell))
        self.weights = nnx.Param(cell.init(rngs.params(), dim, param_dtype))

    def __call__(self, carry: PyTree, inputs: Shaped[Array | np.ndarray, "..."]) -> tuple[PyTree, Array]:
        """One step, inputs [*B D]: the new carry, and y [*B H]."""
        weights = self.cell.prepare(self.weights.get_value())
        carry = self.cell.step(weights, carry, self.cell.drive(weights, inputs))
        return carry, self.cell.read(weights, carry, inputs)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> PyTree:
        """The cell's own first carry [*B, *event] on these parameters, for inputs of shape [*B D]; needs no rngs.

        Raises TypeError where `carry_init` is given: a cell knows its start.
        """
        if carry_init is not None:
            raise TypeError(f"NNXCell: expected no carry_init, for the cell has a start, got {carry_init}")
        batch_shape = tuple(input_shape[: len(input_shape) - self.cell.input_rank])
        return self.cell.start(self.cell.prepare(self.weights.get_value()), batch_shape)

    @property
    def num_feature_axes(self) -> int:
        return self.cell.input_rank
