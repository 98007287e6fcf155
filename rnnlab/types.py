"""The recurrence in parts: what a cell is, and what an engine is.

Axis alphabet, used in every signature and docstring of rnnlab:

    T time (always axis 0)   B batch (any number of axes)   D input features   H hidden units
    P projected units        G stacked gates (a multiple of H)                 V vocabulary   L layers
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

PyTree = Any


def identity(params: PyTree) -> PyTree:
    """Weights that are the parameters: the `prepare` of a cell with nothing to compute once."""
    return params


class Local(NamedTuple):
    """A step and its hand-written derivative, for the engine `fused`.

    forward:    (weights, carry, z) -> (carry, factors)     the step, and what its derivative needs
    backward:   (transposed, factors, dcarry) -> (dcarry, kept)
                the adjoint of one step: from dL/dcarry_t to dL/dcarry_{t-1} by way of this step, and what
                `deferred` needs of it
    deferred:   (weights, inputs [T ...], carries [T ...], factors [T ...], kept [T ...]) -> (dweights, dinputs)
                the other gradients, the drive's among them, of all steps at once: that of a matrix is one large
                product and not T small ones. `carries` are those before each step
    transposed: weights -> transposed                       once a sequence: a product with a transpose in every step
                costs up to twice as much on a CPU
    in_place:   whether a factor may be written over the drive, T B G floats less. Not where a factor is cheap to
                compute (a ReLU, a mixture): XLA then computes it twice, and copies all of the drives in every step
    """

    forward: Callable[..., tuple[PyTree, PyTree]]
    backward: Callable[..., tuple[PyTree, PyTree]]
    deferred: Callable[..., tuple[PyTree, PyTree]]
    transposed: Callable[..., PyTree]
    in_place: bool = True


class Affine(NamedTuple):
    """A step that is affine in the carry, carry_t = A_t carry_{t-1} + b_t, as a map that composes: for `associative`.

    coefficients: (weights, z) -> (a, b)            one step's map: b is like the carry, a stands for A_t in whatever
                  form the cell likes; every leaf has the leading axes of z
    compose:      (earlier, later) -> (a, b)        one map after the other; associative
    one:          a -> a                            what stands for the identity; zeros must stand for 0

    `rnnlab.cells.affine` has the two forms that diagonal recurrences need, real and complex.
    """

    coefficients: Callable[..., tuple[PyTree, PyTree]]
    compose: Callable[..., tuple[PyTree, PyTree]]
    one: Callable[..., PyTree]

    def constant(self, a: PyTree, carry: PyTree) -> tuple[PyTree, PyTree]:
        """The map that gives `carry` whatever it is given; `a` tells its form."""
        return jax.tree.map(jnp.zeros_like, a), carry


class Cell(NamedTuple):
    """A recurrent cell: pure functions that close over hyper-parameters and event shapes.

    init:    (key, dim, dtype) -> params                parameters, a NamedTuple; dim is the input's D
    start:   (weights, batch_shape) -> carry            h_0 (and c_0); at batch_shape=() its event shapes
    drive:   (weights, xs [*B D]) -> zs                 what needs no carry: parallel over time
    step:    (weights, carry, z) -> carry               the recurrence and nothing else: sequential
    read:    (weights, carry, xs) -> ys [*B H]          looks at the carry and x only: parallel over time
    prepare: params -> weights                          once a sequence: matrix exponentials, casts
    input_rank:                                         axes of one input: 1 for [D], 3 for an image
    local:                                              the step with its hand-written derivative, or None
    noise:                                              what is random in training (`rnnlab.noise`), or None
    affine:                                             the step as a map that composes, where it is affine, or None
    diagonal:                                           whether unit j of the new carry depends on unit j of the old
                                                        alone, over all leaves of one shape: then its Jacobian takes
                                                        a product a leaf, and not one a unit (`newton`)

    A carry is an array or a NamedTuple of arrays `[*B, *event]`; a complex state is held as two real
    leaves. Every function takes any number of leading axes, so none of them mentions a batch. The step also runs
    at padding, on an input of zeros and the held carry, and its result is dropped: its gradient must be finite there.
    """

    init: Callable[..., PyTree]
    start: Callable[..., PyTree]
    drive: Callable[..., PyTree]
    step: Callable[..., PyTree]
    read: Callable[..., PyTree]
    prepare: Callable[..., PyTree] = identity
    input_rank: int = 1
    local: Local | None = None
    noise: Callable[..., PyTree] | None = None
    affine: Affine | None = None
    diagonal: bool = False

    @property
    def name(self) -> str:
        """What the cell is called in messages: the factory that `init` was written in."""
        return getattr(self.init, "__qualname__", "a cell").split(".")[0]


def batch_shape(cell: Cell, weights: PyTree, carry: PyTree) -> tuple[int, ...]:
    """*B, by comparing a carry with one of a single row."""
    event = jax.eval_shape(lambda weights: cell.start(weights, ()), weights)
    one, many = jax.tree.leaves(event)[0], jax.tree.leaves(carry)[0]
    return many.shape[: many.ndim - one.ndim]


class Directions(NamedTuple):
    """Something for each direction of a bidirectional layer: its cells, parameters, carries or taps."""

    forward: PyTree
    backward: PyTree


@runtime_checkable
class Engine(Protocol):
    """How the steps are evaluated: every carry [T, *B, *event] from the first one and the inputs [T, ...].

    The engine drives the cell itself, for all steps at once or a few at a time: only it knows what that costs.

    `info` is whatever the engine has to say of its work (iterations, residual); `()` when nothing.
    An engine knows no mask, tap, model or task: wrappers have been applied to the cell before.
    """

    def __call__(self, cell: Cell, weights: PyTree, carry: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]: ...
