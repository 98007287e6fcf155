"""Noise-padded recognition: what is to be recognised comes first, and noise follows until it is asked."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rnnlab.tasks.task import A_CLASS, Example, Task, asked_last, below, each_step
from rnnlab.types import PyTree

CLASSES, STEPS, FEATURES = 10, 10, 8
BLUR = 0.1  # standard deviation of what is added to a pattern


def noise_padded() -> Task:
    """One of 10 patterns of 10 steps x 8 features, a little blurred, then N(0, 1) noise; at the last step the class is
    asked. length: the steps of noise, at least 1; T + 10 in all.

        read  p_1 ... p_10   n_1 ... n_T        p = pattern of the class + N(0, 0.1^2)
        say    _  ...  _      _  ... class

    The idea is that of the noise-padded CIFAR-10 of Chang et al. 2019 and Rusch & Mishra 2021 (32 rows, then noise,
    1000 steps in all); `padded_with_noise` is for images too. The noise is drawn anew for every example (in Rusch &
    Mishra's published code one draw serves them all). The patterns are always the same, `patterns`, and are themselves
    N(0, 1): a step of one looks like a step of noise. What was recognised has to be kept over the T steps. Who guesses
    needs ln 10 nats and is right once in 10.

    >>> import jax
    >>> example = jax.jit(noise_padded().draw, static_argnums=2)(jax.random.key(0), 12, 12, ())
    >>> example.inputs.shape, example.asked.tolist() == [False] * 21 + [True]
    ((22, 8), True)
    >>> distances = ((example.inputs[:10] - patterns()) ** 2).mean((1, 2))  # of each pattern: nearly 0, or about 2
    >>> distances.argmin().item() == example.targets[-1].item(), bool(distances.min() < 0.02)
    (True, True)
    """
    return Task(
        inputs=FEATURES, outputs=CLASSES, draw=_draw, steps=lambda length: length + STEPS, lag=lambda length: length,
        chance=lambda length: math.log(CLASSES), guess=lambda length: 1 / CLASSES, answer=A_CLASS,
    )  # fmt: skip


def patterns() -> Float[Array, "C S D"]:
    """[10, 10, 8] float32: of each class, its pattern. N(0, 1), drawn from `jax.random.key(10)`, always the same.

    >>> patterns().shape, bool((patterns() == patterns()).all())
    ((10, 10, 8), True)
    """
    return jax.random.normal(jax.random.key(10), (CLASSES, STEPS, FEATURES), jnp.float32)


def padded_with_noise(
    key: Key[Array, ""], signal: Float[Array, "S D"], length: Int[Array, ""] | int, bound: int
) -> Float[Array, "T D"]:
    """[S + bound, D]: a signal, then `length` steps of N(0, 1) noise of its type, then zeros.

    A step's noise depends on the key and its number alone, and so not on the bound.

    >>> import jax
    >>> padded = padded_with_noise(jax.random.key(0), jnp.ones((2, 3)), 1, 4)
    >>> (padded != 0).all(1).tolist(), (padded[:2] == 1).all().item()
    ([True, True, True, False, False, False], True)
    """
    noise = each_step(lambda key: jax.random.normal(key, signal.shape[1:], signal.dtype), key, bound)
    drawn = jnp.arange(bound, dtype=jnp.int32)[:, None] < length
    return jnp.concatenate([signal, jnp.where(drawn, noise, 0)])


def _draw(key: Key[Array, ""], length: Int[Array, ""] | int, bound: int, item: PyTree) -> Example:
    of_class, of_blur, of_noise = jax.random.split(key, 3)
    which = below(of_class, (), CLASSES)
    blur = BLUR * jax.random.normal(of_blur, (STEPS, FEATURES), jnp.float32)
    return asked_last(padded_with_noise(of_noise, patterns()[which] + blur, length, bound), which, length + STEPS)
