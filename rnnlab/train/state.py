"""What training carries from step to step, and a checkpoint saves."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Key

from rnnlab.train.optimisers import Optimiser
from rnnlab.types import PyTree


@struct.dataclass
class TrainState:
    """params: the model's. optimiser: optax's state. step: int32 [], updates that were made. key: [], what every random
    number of training comes from, with the step; it never changes. carry: of truncated BPTT, leaves [B, ...]; ()
    without.

    Fields are trees of anything: of arrays, but also of their shapes or shardings, and with an axis of seeds.
    """

    params: PyTree
    optimiser: PyTree
    step: PyTree
    key: PyTree
    carry: PyTree = ()


def init_state(params: PyTree, optimiser: Optimiser, key: Key[Array, ""], carry: PyTree = ()) -> TrainState:
    """The state before the first step. Its arrays are copies, because a step takes the buffers of its state away."""
    params, key, carry = jax.tree.map(jnp.copy, (params, key, carry))
    return TrainState(params, optimiser.init(params), jnp.zeros((), jnp.int32), key, carry)
