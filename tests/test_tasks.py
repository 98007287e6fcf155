"""Every task: what an example is, that it depends on its key alone, what guessing reaches, and that nothing else does.

All of it holds for whatever is in TASKS; a task that also has its rule here is held to it, and to its lag. Most of the
time is compilation: one program a task draws the examples that are looked at, and is drawn from again where it can be.
"""

import doctest
import importlib
import pkgutil
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab.tasks
from rnnlab.tasks import TASKS, draw_batch, key_of, padded_with_noise, selective_copy, temporal_order
from rnnlab.tasks.agreement import LECTURE, WORDS, encode, sentence
from rnnlab.tasks.agreement import agreement as an_agreement
from rnnlab.tasks.noise_padded import noise_padded, patterns
from rnnlab.tasks.task import A_NUMBER
from rnnlab.tasks.temporal_order import WINDOWS

MANY, FEW = 20_000, 50


def some(names, quick):
    """The others are left to the slow tests."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in sorted(names)]


# A variant of a task is one that says so, by `partial`.
NAMES = some(TASKS, {name for name, task in TASKS.items() if not isinstance(task, partial)})
MODULES = [found.name for found in pkgutil.iter_modules(rnnlab.tasks.__path__)]
TWICE = some(TASKS, {"adding", "noise_padded"})  # a second program for each


@cache
def made(name):
    """A task, the function that draws from it, and the middle one of the lengths that are drawn."""
    task = TASKS[name]()
    draw = jax.jit(partial(draw_batch, task), static_argnums=(2, 3), static_argnames="shortest")
    return task, draw, task.shortest + 6


def items(task, rows):
    return jax.tree.map(lambda leaf: leaf[np.arange(rows) % len(leaf)], task.pool.get("train", ()))


def lengths(name):
    length = made(name)[2]
    return length - 1, length, length + 1


def batch(name, rows=MANY, *, seed=0, split="train", step=3):
    """Examples of three lengths, padded to the longest."""
    task, draw, length = made(name)
    return arrays(draw(key_of(seed, split), step, rows, length + 1, shortest=length - 1, items=items(task, rows)))


def arrays(drawn):
    return jax.tree.map(np.asarray, drawn)


@cache
def many(name):
    return batch(name)


def of_length(name, length):
    """The examples of one length, without their padding."""
    drawn, steps = many(name), made(name)[0].steps(length)
    rows = drawn.lengths == steps
    return type(drawn)(*(a[:steps, rows] for a in drawn[:-1]), drawn.lengths[rows])


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_what_the_task_says_and_its_padding_is_zeros(name):
    """Of 32 bits where x64 is on, as it is here."""
    (task, _, length), drawn = made(name), many(name)
    axes, number = (task.steps(length + 1), MANY), task.answer is A_NUMBER
    assert (drawn.inputs.shape, drawn.inputs.dtype) in [(axes, np.int32), ((*axes, task.inputs), np.float32)]
    assert (drawn.targets.shape, drawn.targets.dtype) == (axes, np.float32 if number else np.int32)
    assert [(mask.shape, mask.dtype) for mask in (drawn.scored, drawn.asked)] == [(axes, np.bool_)] * 2
    assert (drawn.lengths.shape, drawn.lengths.dtype) == ((MANY,), np.int32)
    assert set(drawn.lengths) == {task.steps(n) for n in lengths(name)}
    inside = np.arange(len(drawn.inputs))[:, None] < drawn.lengths
    assert drawn.asked.any(0).all() and not (drawn.asked & ~drawn.scored).any() and not (drawn.scored & ~inside).any()
    assert not drawn.inputs[~inside].any() and not drawn.targets[~drawn.scored].any()
    if drawn.inputs.dtype == np.int32:
        assert drawn.inputs.min() == 0 and drawn.inputs.max() == task.inputs - 1
    if number:
        assert task.outputs == 1 and task.guess is None
    else:
        assert drawn.targets.min() == 0 and drawn.targets.max() == task.outputs - 1


@pytest.mark.parametrize("name", NAMES)
def test_no_two_examples_have_the_same_draws(name):
    drawn, other = many(name), batch(name, step=4)
    for a, b in zip(drawn[:2], other[:2], strict=True):
        assert not np.array_equal(a, b) and not np.array_equal(a, np.roll(a, 1, axis=1))


def test_an_example_depends_on_seed_split_step_and_number():
    drawn = many("parity")
    assert same(batch("parity"), drawn)
    for change in ({"seed": 1}, {"split": "validation"}, {"split": "test"}, {"step": 4}):
        assert not same(batch("parity", **change)[:1], drawn[:1]), change


@pytest.mark.parametrize("name", TWICE)
def test_an_example_in_a_small_batch_without_padding_is_the_same(name):
    task, draw, length = made(name)
    few = arrays(draw(key_of(0, "train"), 3, FEW, length, items=items(task, FEW)))
    rows = np.flatnonzero(many(name).lengths[:FEW] == task.steps(length))
    assert len(rows) > FEW / 6
    for of_few, of_many in zip(few[:-1], many(name)[:-1], strict=True):
        np.testing.assert_array_equal(of_few[:, rows], of_many[: len(of_few), rows])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_examples_are_the_same_where_x64_is_off(name):
    with jax.enable_x64(False):
        drawn = batch(name)
    assert same(drawn, many(name)) and [a.dtype for a in drawn] == [a.dtype for a in many(name)]


@pytest.mark.parametrize("name", NAMES)
def test_chance_is_what_the_best_blind_answer_reaches(name, allow_promotion):
    """Blind to the inputs, but not to length and time: at each step the share of each class, or the mean of the number.

    A share is fitted to the examples that it is tested on, hence the second term of the tolerance: C - 1 numbers a
    step.
    """
    task, longest = made(name)[0], len(many(name).scored)
    for length in lengths(name):
        drawn = of_length(name, length)
        losses, right = blind(task, drawn.targets, longest)
        rows = len(drawn.lengths)
        of_rows = np.where(drawn.scored, losses, 0).sum(0) / drawn.scored.sum(0)
        tolerance = 5 * of_rows.std() / rows**0.5 + task.outputs / rows
        assert tolerance < 0.08 * task.chance(length)
        np.testing.assert_allclose(of_rows.mean(), task.chance(length), rtol=0, atol=tolerance)
        if task.guess is not None:
            share = task.guess(length)
            atol = 5 * (share * (1 - share) / rows) ** 0.5
            np.testing.assert_allclose(right[drawn.asked].mean(), share, rtol=0, atol=atol)


def blind(task, targets, longest):
    """Loss and whether it is right [T, B], of saying the same of every example; by the task's own measure.

    That is asked of each class once, at as many steps as the longest has: one shape a task.
    """
    if task.answer is A_NUMBER:
        says = targets.mean(1)[:, None]
        return np.square(says - targets), abs(says - targets) < 0.04
    shares = np.stack([(targets == n).mean(1) for n in range(task.outputs)], -1)
    says = np.log(np.pad(shares, ((0, longest - len(shares)), (0, 0))) + 1e-30).astype(np.float32)
    says, classes = np.broadcast_arrays(says[:, None], np.arange(task.outputs, dtype=np.int32)[:, None])
    measure = jax.jit(lambda says, classes: (task.answer.loss(says, classes), task.answer.right(says, classes)))
    losses, right = arrays(measure(jnp.array(says), jnp.array(classes[..., 0])))
    at = np.arange(len(targets))[:, None]
    return losses.astype(float)[at, targets], right[at, targets]


def test_a_number_is_scored_by_its_squared_error_and_right_within_0_04(allow_promotion):
    says, targets = jnp.array([[1.0], [1.0], [1.0]]), jnp.array([0.5, 0.961, 1.041])
    np.testing.assert_allclose(A_NUMBER.loss(says, targets), [0.25, 0.039**2, 0.041**2], rtol=1e-5)
    assert A_NUMBER.right(says, targets).tolist() == [False, True, False]


def first_answers(drawn):
    return drawn.targets[drawn.asked.argmax(0), np.arange(drawn.targets.shape[1])]


def tells(this, of_that):
    """Whether one thing depends on the other: more of chi-squared than 6 standard deviations beyond its mean."""
    bins = [np.digitize(a, np.quantile(a, [0.25, 0.5, 0.75])) if a.dtype.kind == "f" else a for a in (this, of_that)]
    counts = np.zeros([1 + a.max() for a in bins])
    np.add.at(counts, tuple(bins), 1)
    counts = counts[counts.any(1)][:, counts.any(0)]
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    free = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return ((counts - expected) ** 2 / expected).sum() > free + 6 * (2 * free) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_the_length_does_not_tell_the_answer(name):
    assert not tells(first_answers(many(name)), many(name).lengths)


# In adding the second mark may be on the last step itself.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "adding"])
def test_the_input_where_it_is_asked_does_not_tell_the_answer(name):
    drawn = of_length(name, made(name)[2])
    for step in np.flatnonzero(drawn.asked.all(1)):
        inputs = drawn.inputs[step]
        for feature in inputs.T if inputs.ndim == 2 else [inputs]:
            assert not tells(drawn.targets[step], feature), step


def nearest_pattern(read):
    return [((np.asarray(patterns()) - read[:10]) ** 2).sum((1, 2)).argmin()]


def in_order(read):
    symbols = [n for n in read if n < 2]
    return [sum(2**k * n for k, n in enumerate(reversed(symbols)))]


# What one row's answers are, from its inputs [T, ...]. Counted from the end, a token of selective copying has nothing
# to do with what came before it.
RULES = {
    "adding": lambda read: [read[read[:, 1] == 1, 0].sum()],
    "agreement": lambda read: [read[0]],
    "agreement_near": lambda read: [read[0]],
    "copy_memory": lambda read: list(read[:10]),
    "noise_padded": nearest_pattern,
    "parity": lambda read: [read.sum() % 2],
    "selective_copy": lambda read: [n for n in [0] * 10 + list(read) if n < 8][-10:],
    "temporal_order": in_order,
    "temporal_order_8": in_order,
}


@pytest.mark.parametrize("name", some(RULES, NAMES))
def test_the_answer_follows_from_the_inputs_and_its_lag_is_said(name):
    """What was read `lag` steps before an answer and earlier is needed for it, and what came before that is not.

    (Each of a pattern's ten steps is, in noise_padded: its lag is that of the last one.)
    """
    task, _, length = made(name)
    drawn, needed = of_length(name, length), False
    for row in range(200):
        asked, read, other = np.flatnonzero(drawn.asked[:, row]), drawn.inputs[:, row], drawn.inputs[:, row + 1]
        answers = RULES[name](read)
        np.testing.assert_allclose(drawn.targets[asked, row], answers, rtol=1e-6)
        for n, first in enumerate(asked - task.lag(length)):
            assert first >= 0
            before, to = (np.concatenate([other[:end], read[end:]]) for end in (first, first + 1))
            assert name == "noise_padded" or RULES[name](before)[n] == answers[n]
            needed |= bool(RULES[name](to)[n] != answers[n])
    assert needed


@pytest.mark.parametrize("name", some(MODULES, {"agreement", "parity", "task"}))
def test_examples_in_docstrings_are_true(name):
    found = doctest.testmod(importlib.import_module(f"rnnlab.tasks.{name}"))
    assert found.attempted and not found.failed


@pytest.mark.parametrize("name", NAMES)
def test_lengths_that_a_task_has_not_are_refused(name):
    task, _, length = made(name)
    for bound, shortest in ((task.shortest - 1, None), (length, task.shortest - 1), (length, length + 1)):
        with pytest.raises(ValueError, match="draw_batch"):
            draw_batch(task, key_of(0, "train"), 0, 1, bound, shortest=shortest, items=items(task, 1))


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (lambda: temporal_order(classes=6), "6"),
        (lambda: selective_copy(tokens=0), "0"),
        (lambda: selective_copy(kinds=1), "1"),
        (lambda: an_agreement(subject="beside"), "beside"),
    ],
)
def test_options_that_a_task_has_not_are_refused(make, given):
    with pytest.raises(ValueError, match=rf"expected .* got .*{given}"):
        make()


@pytest.mark.parametrize(
    ("name", "classes"), [("temporal_order", 4), pytest.param("temporal_order_8", 8, marks=pytest.mark.slow)]
)
def test_symbols_that_matter_stand_in_their_windows_apart_and_before_the_last_step(name, classes):
    assert WINDOWS == {4: ((10, 20), (50, 60)), 8: ((10, 20), (33, 43), (66, 76))}  # of 100, in 1997
    for length in range(temporal_order(classes).shortest, 1_000):
        ends = [end * length // 100 for window in WINDOWS[classes] for end in window]
        assert ends[-1] < length - 1 and all(a < b for a, b in zip(ends[1::2], ends[2::2], strict=False)), length
    for length in lengths(name):
        read = of_length(name, length).inputs.T
        places = np.nonzero(read < 2)[1].reshape(len(read), -1)  # as many in every row, or this fails
        ends = [(low * length // 100, high * length // 100) for low, high in WINDOWS[classes]]
        assert list(zip(places.min(0), places.max(0), strict=True)) == ends


def test_tokens_are_strewn_over_every_pair_of_steps_alike():
    length = made("selective_copy")[2]
    token = (of_length("selective_copy", length).inputs[:length] < 8).astype(float)
    assert (token.sum(0) == 10).all()
    pairs, rows, share = token @ token.T, token.shape[1], 10 * 9 / (length * (length - 1))
    spread = (rows * share * (1 - share)) ** 0.5
    assert (abs(pairs - rows * share) < 5 * spread)[~np.eye(length, dtype=bool)].all()


def test_noise_is_standard_normal_of_the_signals_type_and_no_two_examples_have_the_same():
    drawn = of_length("noise_padded", made("noise_padded")[2])
    noise, blur = drawn.inputs[10:], drawn.inputs[:10] - np.asarray(patterns())[first_answers(drawn)].transpose(1, 0, 2)
    for values, spread in ((noise, 1), (blur, 0.1)):
        assert abs(values.mean()) < 5 * spread / values.size**0.5 and abs(values.std() / spread - 1) < 0.01
    assert not np.isclose(noise[:, 0], noise[:, 1]).any() and not np.isclose(noise[0], noise[1]).all(1).any()
    end = len(drawn.inputs) - 1 - noise_padded().lag(made("noise_padded")[2])  # the last step that tells anything
    told = [any(tells(first_answers(drawn), feature) for feature in drawn.inputs[at].T) for at in range(end, end + 3)]
    assert told == [True, False, False]
    padded = jax.eval_shape(lambda: padded_with_noise(jax.random.key(0), jnp.zeros((2, 3), jnp.float64), 1, 2))
    assert (padded.shape, padded.dtype) == ((4, 3), jnp.float64)


def test_the_lectures_sentences_are_examples_of_the_task_and_read_as_they_were():
    for subject, both in LECTURE.items():
        for tense, text in enumerate(both):
            example = encode(text)
            assert sentence(example) == text.replace(",", "").replace(".", "")
            assert (int(example.targets[-1]), int(example.inputs[0]), int(example.lengths)) == (tense, tense, 11)
            up_to_the_verb = text.split(" need")[0].split(" had")[0]
            assert same(encode(up_to_the_verb), example) and WORDS[example.inputs[1 if subject == "far" else -1]] == "I"
    row = jax.tree.map(lambda a: a[..., 7], of_length("agreement", made("agreement")[2]))
    assert same(encode(sentence(row)), row)
    padded = jax.tree.map(lambda a: a[..., many("agreement").lengths.argmin()], many("agreement"))
    assert len(sentence(padded).replace("Last year", "Today").split()) == padded.lengths + 5


@pytest.mark.parametrize("name", some(["agreement", "agreement_near"], {"agreement"}))
def test_the_subject_stands_where_it_is_said_and_all_distractors_come_at_every_other_step(name):
    read = of_length(name, made(name)[2]).inputs
    subject = {"agreement": 1, "agreement_near": len(read) - 1}[name]
    assert set(read[0]) == {0, 1} and set(read[subject]) == {2}
    for at in set(range(1, len(read))) - {subject}:
        assert set(read[at]) == set(range(3, 23))


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("Tomorrow I due need to take a loan", "Tomorrow"),
        ("Today I due had to take a loan", "had to take"),
        ("Last year I due had to take a car", "a car"),
        ("Today due I to need to take a loan", "due I to"),
        ("Today due to need to take a loan", "due to need"),
        ("Today I due I need to take a loan", "due I need"),
        ("Today I owe need to take a loan", "owe"),
        ("Today", "Today"),
    ],
)
def test_a_sentence_that_the_task_has_not_is_refused(text, given):
    with pytest.raises(ValueError, match=f"encode: expected .* got .*{given}"):
        encode(text)
