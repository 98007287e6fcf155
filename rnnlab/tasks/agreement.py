"""Agreement: the verb of a sentence follows its first word, however many words stand between them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from rnnlab.tasks.task import A_CLASS, Example, Task, asked_last, below, each_step
from rnnlab.types import PyTree

TENSES = ("Today", "Last year")  # one id each: neither a length nor a position tells which
SUBJECT = "I"
DISTRACTORS = (
    "due", "to", "my", "current", "job", "situation", "and", "family", "conditions",
    "the", "rising", "rent", "of", "our", "new", "house", "with", "its", "high", "prices",
)  # fmt: skip
WORDS = (*TENSES, SUBJECT, *DISTRACTORS)  # a word's id is its place here
VERBS, ENDING = ("need", "had"), ("to", "take", "a", "loan")  # the verb's class is its tense's id

_REASON = "due to my current job situation and family conditions"
# The lecture's two sentences: with the subject before its verb, as they were said, and far from it.
LECTURE = {
    "near": (f"Today, {_REASON}, I need to take a loan.", f"Last year, {_REASON}, I had to take a loan."),
    "far": (f"Today I {_REASON} need to take a loan.", f"Last year I {_REASON} had to take a loan."),
}


def agreement(subject: str = "far") -> Task:
    """A sentence read word by word, whose first word or two ("Today", "Last year": one id) decide its verb ("need",
    "had"), which is asked where it comes next. length: D, the distractors between, each drawn from the same 20 words
    (`DISTRACTORS`); D + 2 steps in all.

        far   Today  I  due to my ... conditions      -> need (to take a loan)       the subject far from the verb
        near  Today     due to my ... conditions  I   -> need                        the lecture's own order

    subject: where "I" stands. Far, it comes before the distractors, and the last word read is one of them; near, after
    them, right before the verb. Either way no word but the first tells anything of the verb, which is D + 1 steps away.
    Who guesses needs ln 2 nats and is right every other time.

    >>> import jax
    >>> example = jax.jit(agreement().draw, static_argnums=2)(jax.random.key(0), 12, 12, ())
    >>> first, subject, *rest = (WORDS[n] for n in example.inputs.tolist())
    >>> subject, len(rest), set(rest) <= set(DISTRACTORS)
    ('I', 12, True)
    >>> VERBS[example.targets[-1]] == {"Today": "need", "Last year": "had"}[first]
    True

    The lecture's sentences, and back:

    >>> encode(LECTURE["near"][0]).inputs.tolist()  # Today, due to my current job situation and family conditions, I
    [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 2]
    >>> sentence(encode(LECTURE["far"][1]))
    'Last year I due to my current job situation and family conditions had to take a loan'

    Raises ValueError for a subject that is neither "far" nor "near".
    """
    if subject not in LECTURE:
        raise ValueError(f"agreement: expected subject 'far' or 'near', got {subject!r}")

    def draw(key: Key[Array, ""], length: Int[Array, ""] | int, bound: int, item: PyTree) -> Example:
        of_tense, of_words = jax.random.split(key)
        tense = below(of_tense, (), len(TENSES))
        lowest = WORDS.index(DISTRACTORS[0])
        words = lowest + each_step(lambda key: below(key, (), len(DISTRACTORS)), of_words, bound)
        at, place = jnp.arange(bound + 2, dtype=jnp.int32), 1 if subject == "far" else length + 1
        distractors = words[jnp.clip(at - 1 - (at > place).astype(jnp.int32), 0, bound - 1)]
        read = jnp.where(at == 0, tense, jnp.where(at == place, WORDS.index(SUBJECT), distractors))
        return asked_last(read, tense, length + 2)

    return Task(
        inputs=len(WORDS), outputs=len(VERBS), draw=draw, steps=lambda length: length + 2,
        lag=lambda length: length + 1, chance=lambda length: math.log(2), guess=lambda length: 1 / 2, answer=A_CLASS,
    )  # fmt: skip


def encode(text: str) -> Example:
    """One sentence as an example: whole, or up to its verb. Commas and a full stop are left out.

    Raises ValueError for a sentence that the task does not have: another first word, a subject that is not right after
    it or right before the verb, a word that is not in the list, a verb that does not agree, another ending.
    """
    first, rest = _first(text.replace(",", " ").replace(".", " ").split())
    verbs = [n for n, word in enumerate(rest) if word in VERBS]
    read, said = (rest[: verbs[0]], rest[verbs[0] :]) if verbs else (rest, [])
    if said and tuple(said) != (VERBS[first], *ENDING):
        expected = " ".join((VERBS[first], *ENDING))
        raise ValueError(f"encode: expected {TENSES[first]!r} to end in {expected!r}, got {' '.join(said)!r}")
    if read.count(SUBJECT) != 1 or SUBJECT not in (read[0], read[-1]):
        raise ValueError(f"encode: expected {SUBJECT!r} once, next to {TENSES[first]!r} or the verb, got {text!r}")
    unknown = [word for word in read if word != SUBJECT and word not in DISTRACTORS]
    if unknown:
        raise ValueError(f"encode: expected words of rnnlab.tasks.agreement.DISTRACTORS, got {unknown[0]!r}")
    ids = jnp.array([first, *(WORDS.index(word) for word in read)], jnp.int32)
    return asked_last(ids, jnp.asarray(first, jnp.int32), len(ids))


def _first(words: list[str]) -> tuple[int, list[str]]:
    """The tense's id, and the words after it."""
    for n, tense in enumerate(TENSES):
        size = len(tense.split())
        if words[:size] == tense.split():
            return n, words[size:]
    raise ValueError(f"encode: expected a sentence that begins with one of {TENSES}, got {' '.join(words)!r}")


def sentence(example: Example) -> str:
    """One example, without batch axes, as its sentence, with the verb that is right."""
    ids = np.asarray(example.inputs)[: int(example.lengths)]
    verb = VERBS[int(example.targets[int(example.lengths) - 1])]
    return " ".join([*(WORDS[n] for n in ids), verb, *ENDING])
