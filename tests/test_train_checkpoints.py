"""Checkpoints come back with the same bits, are refused where they do not fit, and are passed over where damaged."""

import errno
import json
import os
import shutil
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.errors import InputError
from rnnlab.train.checkpoints import Checkpoints, restore_params

CONFIGURATION = {"steps": 3, "cells": ("gru", "lstm"), "rate": 0.5, "devices": 1, "nested": {"a": 1}}


class Adam(NamedTuple):
    count: Any
    mu: Any


class Params(NamedTuple):
    stack: Any
    embed: Any
    none: Any


class Layer(NamedTuple):
    w: Any
    b: Any


@flax.struct.dataclass
class State:
    params: Any
    optimiser: Any
    step: Any
    key: Any
    carry: Any = ()


def parameters(draw, hidden):
    """One of every kind of leaf: float64, float32, bfloat16, an empty array."""
    stack = tuple(
        Layer(jnp.asarray(draw.normal(size=(3, hidden))), jnp.asarray(draw.normal(size=hidden), jnp.float32))
        for _ in range(2)
    )
    embed = {"embedding": jnp.asarray(draw.normal(size=(4, 2)), jnp.bfloat16)}
    return Params(stack=stack, embed=embed, none=jnp.zeros((0, 2)))


def state(seed=0, hidden=5, carry=()):
    draw = np.random.default_rng(seed)
    moments = Adam(jnp.asarray(seed), parameters(draw, hidden))
    return State(parameters(draw, hidden), moments, jnp.int32(seed), jax.random.key(seed), carry)


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def opened(folder, **changes):
    return Checkpoints(folder, CONFIGURATION | changes, keep=2)


def saved(folder, *steps):
    with opened(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), (step, 2 * step), {"rows": 10 * step})
    return folder


def test_the_same_bits(folder, capfd):
    with opened(folder) as checkpoints:
        assert checkpoints.restore(state()) is None and checkpoints.latest is None
        checkpoints.save(7, state(7, carry=(jnp.ones((2, 3)),)), (1, 2), {"rows": 3})
        checkpoints.wait()
        assert checkpoints.latest == 7
    with opened(folder) as checkpoints:
        found = checkpoints.restore(state(1, carry=(jnp.zeros((2, 3)),)))
        abstract = checkpoints.restore(jax.eval_shape(lambda: state(1, carry=(jnp.zeros((2, 3)),))))
    assert (found.step, found.position, found.mark) == (7, [1, 2], {"rows": 3})
    same(found.state, state(7, carry=(jnp.ones((2, 3)),)))
    same(abstract.state, found.state)
    np.testing.assert_array_equal(jax.random.normal(found.state.key, (3,)), jax.random.normal(jax.random.key(7), (3,)))
    same(restore_params(folder, state().params), state(7).params)
    assert capfd.readouterr() == ("", "")  # orbax is silent


@pytest.mark.faults
def test_what_is_saved_is_the_state_as_it_was(folder):
    """The next step takes the buffers of this state while it is being written."""
    step = jax.jit(lambda s: jax.tree.map(lambda x: x * 3 + 1, s), donate_argnums=0)
    with opened(folder) as checkpoints:
        for number in range(4):
            given = {"w": jnp.asarray(np.random.default_rng(number).normal(size=(300, 300)))}
            expected = jax.device_get(given)
            checkpoints.save(number, State(given, (), jnp.int32(0), jax.random.key(0)), 0)
            for _ in range(5):
                given = step(given)
            checkpoints.wait()
            template = State(given, (), jnp.int32(0), jax.random.key(0))
            same(checkpoints.restore(template).state.params, expected)


def steps_in(folder):
    return sorted(int(name) for name in os.listdir(folder) if name.isdigit())


@pytest.mark.faults
def test_the_latest_and_the_best_are_kept(folder):
    scores = [3.0, 1.0, float("nan"), 1.0, 2.0, 5.0]
    with opened(folder) as checkpoints:
        for step, score in enumerate(scores):
            checkpoints.save(step, state(step), None)
            checkpoints.score(step, score)
            checkpoints.wait()
        assert steps_in(folder) == [1, 4, 5] and checkpoints.best == 1
        same(restore_params(folder, state().params), state(1).params)
        same(restore_params(folder, state().params, step=4), state(4).params)
    with opened(folder) as checkpoints:  # scores are remembered
        assert checkpoints.best == 1
        checkpoints.save(6, state(6), None)
        checkpoints.score(6, 0.5)
        checkpoints.save(7, state(7), None)
        checkpoints.wait()
        assert steps_in(folder) == [6, 7]


def test_damaged_scores_are_said(folder, capfd):
    saved(folder, 1)
    (folder / "scores.json").write_text("{")
    with opened(folder) as checkpoints:
        assert checkpoints.best is None
    assert capfd.readouterr().err.endswith("scores.json is damaged: no checkpoint before is known as the best\n")


# Refused.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 4}, "expected steps 3, given 4"),
        ({"cells": ["gru"]}, r"expected cells \[\"gru\", \"lstm\"\], given \[\"gru\"\]"),
        ({"rate": 1, "devices": 2}, "expected rate 0.5, given 1"),
        ({"devices": 1.0}, "expected devices 1, given 1.0"),
        ({"nested": {"a": 2}}, "expected nested.a 1, given 2"),
        ({"nested": {"a": 1, "b": 2}}, "expected nested.b absent, given 2"),
    ],
)
def test_another_configuration(folder, changes, message):
    saved(folder, 1)
    with (
        opened(folder, **changes) as checkpoints,
        pytest.raises(InputError, match=f"1 is of another configuration: {message}$"),
    ):
        checkpoints.restore(state())
    assert steps_in(folder) == [1]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (lambda: state(hidden=6), r"params.stack\[0\].w float64\[3, 5\], given float64\[3, 6\]"),
        (lambda: state(carry=(jnp.zeros(2),)), r"carry\[0\] absent, given float64\[2\]"),
        (lambda: state().replace(step=jnp.int64(0)), r"step int32\[\], given int64\[\]"),
        (lambda: state().replace(optimiser=()), r"optimiser.count int64\[\], given absent"),
        (lambda: state().replace(key=jnp.zeros(2, jnp.uint32)), r"key key<fry>\[\], given uint32\[2\]"),
    ],
)
def test_another_state(folder, template, message):
    saved(folder, 1)
    with opened(folder) as checkpoints, pytest.raises(InputError, match=f"1 is of another state: expected {message}$"):
        checkpoints.restore(template())
    assert steps_in(folder) == [1]


def test_parameters_that_do_not_fit(folder, tmp_path):
    saved(folder, 1)
    with pytest.raises(InputError, match=r"of another state: expected params.stack\[0\].w float64\[3, 5\]"):
        restore_params(folder, state(hidden=6).params)
    for place, step, message in ((tmp_path / "none", None, "given none"), (folder, 2, "of step 2, given none")):
        with pytest.raises(InputError, match=message):
            restore_params(place, state().params, step=step)


def test_a_file_in_its_place(folder):
    folder.write_text("mine")
    for attempt in (lambda: opened(folder), lambda: restore_params(folder, state().params)):
        with pytest.raises(InputError, match=r"checkpoints: .*(File exists|a file)"):
            attempt()
    assert folder.read_text() == "mine"


def test_what_json_cannot_take_is_our_error(folder):
    with pytest.raises(TypeError):
        opened(folder, rate=object())
    with opened(folder) as checkpoints, pytest.raises(TypeError):
        checkpoints.save(1, state(), object())
    assert steps_in(folder) == []


# Damaged.


def arrays(folder, step, item="params"):
    """The files with an item's numbers, the largest first."""
    files = [file for file in (folder / str(step) / item).rglob("*") if file.is_file() and file.parent.name == "d"]
    return sorted(files, key=lambda file: -file.stat().st_size)


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    file.write_bytes(content)


def change_about(folder, step):
    file = folder / str(step) / "about" / "metadata"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"position": [9, 9]}))


def truncate_all(files):
    for file in files:
        os.truncate(file, file.stat().st_size // 2)


DAMAGES = {
    "flipped at the start": lambda folder: [flip(file, 0.0) for file in arrays(folder, 2)],
    "flipped in the middle": lambda folder: [flip(file, 0.5) for file in arrays(folder, 2)],
    "flipped in the rest": lambda folder: [flip(file, 0.7) for file in arrays(folder, 2, "rest")],
    "truncated": lambda folder: truncate_all(arrays(folder, 2)),
    "emptied": lambda folder: [os.truncate(file, 0) for file in arrays(folder, 2, "rest")],
    "an item missing": lambda folder: shutil.rmtree(folder / "2" / "rest"),
    "about missing": lambda folder: shutil.rmtree(folder / "2" / "about"),
    "about changed": lambda folder: change_about(folder, 2),
    "about torn": lambda folder: os.truncate(folder / "2" / "about" / "metadata", 50),
    "nothing left": lambda folder: [shutil.rmtree(one) for one in (folder / "2").iterdir() if one.is_dir()],
}


@pytest.mark.faults
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over(folder, capfd, damage):
    saved(folder, 1, 2)
    DAMAGES[damage](folder)
    with opened(folder) as checkpoints:
        found = checkpoints.restore(state())
        assert found.step == 1 and found.position == [1, 2]
        same(found.state, state(1))
        out, err = capfd.readouterr()
        assert out == "" and err.count("\n") == 1
        assert err.startswith(f"{folder}/2 is damaged (") and err.endswith("and set aside; going back to step 1\n")
        checkpoints.save(2, state(2), (2, 4))  # its place is free again
    with opened(folder) as checkpoints:
        assert checkpoints.restore(state()).step == 2
    assert (folder / "damaged" / "2").is_dir()


@pytest.mark.faults
def test_a_flipped_bit_that_orbax_does_not_see(folder, capfd):
    """It has no checksums of its own for arrays of some size, and gives back other numbers."""
    large = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(200, 200)))}
    with opened(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step).replace(params=large), None)
    file = max((folder / "2" / "params").rglob("*"), key=lambda file: file.stat().st_size)
    flip(file, 0.6)
    with opened(folder) as checkpoints:
        assert checkpoints.restore(state().replace(params=large)).step == 1
    assert "2 is damaged (params['w']: its checksum is wrong)" in capfd.readouterr().err


@pytest.mark.faults
def test_all_damaged_is_refused_and_nothing_is_moved(folder, capfd):
    saved(folder, 1, 2)
    for step in (1, 2):
        truncate_all(arrays(folder, step))
    with opened(folder) as checkpoints, pytest.raises(InputError, match=r"all are damaged, the newest \(step 2\)"):
        checkpoints.restore(state())
    assert steps_in(folder) == [1, 2] and not (folder / "damaged").exists()
    with pytest.raises(InputError, match="2 is damaged: "):
        restore_params(folder, state().params)


@pytest.mark.faults
def test_a_save_that_was_cut_off_is_not_seen(folder):
    saved(folder, 1, 2)
    shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp")
    (folder / "3.orbax-checkpoint-tmp" / "commit_success.txt").unlink()
    with opened(folder) as checkpoints:
        assert checkpoints.restore(state()).step == 2
    assert sorted(os.listdir(folder)) == ["1", "2"]


# A disk that refuses.


@pytest.mark.faults
def test_a_folder_that_turned_into_a_file(folder):
    checkpoints = opened(folder)
    checkpoints.save(1, state(1), None)
    checkpoints.wait()
    shutil.rmtree(folder)
    folder.write_text("mine")
    with pytest.raises(InputError, match=r"checkpoints: .* could not be written: "):
        checkpoints.save(2, state(2), None)
        checkpoints.wait()
    with pytest.raises(InputError, match="scores could not be written: Not a directory"):
        checkpoints.score(1, 2.0)
    assert folder.read_text() == "mine"


def test_what_the_disk_refuses_is_not_called_damage(folder, monkeypatch):
    with opened(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), None)
            checkpoints.wait()
        before = sorted(os.listdir(folder))

        def refused(*_, **__):
            raise OSError(errno.EIO, "as the system says")

        monkeypatch.setattr(checkpoints._manager, "restore", refused)
        with pytest.raises(InputError, match=rf"^{folder}/2 could not be read: {os.strerror(errno.EIO)}$"):
            checkpoints.restore(state())
    assert sorted(os.listdir(folder)) == before
