"""Cells as modules of flax.linen: one for `nn.RNN` and `nn.Bidirectional`, and a whole stack."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Integer, Key, Shaped

from rnnlab.layers import Join, init_layers, layers, plain
from rnnlab.noise import quiet
from rnnlab.types import Cell, Directions, Engine, PyTree
from rnnlab.unroll import Unrolled


class LinenCell(nn.RNNCellBase):
    """A cell as one step of linen, for `nn.RNN(LinenCell(lstm(64)))`, `seq_lengths` and `nn.Bidirectional` included.

    Its one entry among the variables, `weights`, is the cell's own NamedTuple, so parameters pass from here to `unroll`
    and back as they are. param_dtype: of the parameters and the state; give inputs of that type.

    A noisy cell (`rnnlab.noise`) is its expectation here; `LinenStack` draws.

    The price against `unroll`: drive, `prepare` and read in every step (a matrix exponential T times), autodiff and
    not the local derivatives, and the carries of all steps twice where lengths and the last carry are asked for.
    `LinenStack` pays none of it.
    """

    cell: Cell
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, carry: PyTree, x: Shaped[Array | np.ndarray, "..."]) -> tuple[PyTree, Shaped[Array, "..."]]:
        """One step, x [*B D]: the new carry, and y [*B H]."""
        cell = quiet(self.cell)
        weights = cell.prepare(self.param("weights", cell.init, x.shape[-1], self.param_dtype))
        carry = cell.step(weights, carry, cell.drive(weights, x))
        return carry, cell.read(weights, carry, x)

    @nn.nowrap
    def initialize_carry(self, rng: Key[Array, ""], input_shape: tuple[int, ...]) -> PyTree:
        """The first carry [*B, *event] for inputs of shape [*B D].

        linen asks for it where there are no parameters yet, so it is the `start` of parameters drawn from `rng`: right
        for a cell whose start does not depend on them. For any other pass `initial_carry`.
        """
        cell = quiet(self.cell)
        weights = cell.prepare(cell.init(rng, input_shape[-1], self.param_dtype))
        return cell.start(weights, tuple(input_shape[: len(input_shape) - cell.input_rank]))

    @property
    def num_feature_axes(self) -> int:
        return self.cell.input_rank


class LinenStack(nn.Module):
    """A whole stack as one module: `rnnlab.layers.layers`, on the engine it is given or each cell's default.

    cells: one a layer, `Directions` for a bidirectional one. Its one entry among the variables, `weights`, is what
    `init_layers` gives, so no image cell can be in it. join, dropout, engine, chunk: as in `layers`. Dropout
    and noisy cells (`rnnlab.noise`) draw from the stream `dropout` where `apply` is given one; else the expectation.
    """

    cells: tuple[Cell | Directions, ...]
    join: Join | Sequence[Join] = plain
    dropout: float | int | Sequence[float | int] = 0.0
    engine: Engine | None = None
    chunk: int | None = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        xs: Shaped[Array | np.ndarray, "T ..."],
        lengths: Integer[Array | np.ndarray, "..."] | Sequence[int] | None = None,
        *,
        keep: Bool[Array | np.ndarray, "T ..."] | None = None,
        resets: Bool[Array | np.ndarray, "T ..."] | None = None,
        start: Sequence[PyTree] | None = None,
        taps: Sequence[PyTree] | None = None,
        reverse: bool = False,
    ) -> Unrolled:
        """Time first, xs [T, *B, D]; arguments, results and errors are those of `layers`."""
        init = lambda key: init_layers(self.cells, key, xs.shape[-1], self.param_dtype)  # noqa: E731
        how = dict(join=self.join, dropout=self.dropout, engine=self.engine, chunk=self.chunk)
        params = self.param("weights", init)
        key = self.make_rng("dropout") if self.has_rng("dropout") else None
        how |= dict(start=start, keep=keep, lengths=lengths, resets=resets, taps=taps, reverse=reverse)
        return layers(self.cells, params, xs, key=key, **how)
