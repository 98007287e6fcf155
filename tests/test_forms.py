"""`forms`: what is said and scored in each form, its terms and their gradients, its run, and what its models say."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from launching import launched, only_run

from experiments import forms
from experiments._forms_data import FORMS, SILENT, Said, Steps, continued, encoded, tag, verdict, vocabulary_of
from experiments._forms_programs import Network, alone, terms_of
from rnnlab import cells, probes
from rnnlab.data.vocabularies import END, UNKNOWN, tokens

pytestmark = pytest.mark.usefixtures("allow_promotion")

SEED = int.from_bytes(os.urandom(4), "big")
TINY = dict(cell="elman", steps=6, seeds=2, measurements=2, hidden=4, embedding=3, batch=8, length=9, written=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rng, folder = np.random.default_rng(SEED), tmp_path_factory.mktemp("forms")
    lines = [f"{rng.choice([-1, 1])}\t{' '.join(rng.choice(list('abcdefg'), rng.integers(1, 12)))}" for _ in range(150)]
    (folder / "texts.tsv").write_text("\n".join(lines) + "\n")
    assert launched("forms", folder / "runs", file=folder / "texts.tsv", **TINY) == 0
    return only_run(folder / "runs")


def drawn(form: str, length: int) -> tuple[Network, jax.Array, Steps]:
    rng = np.random.default_rng([SEED, length])
    outputs = 6 if form == "one_to_many" else 2
    net = Network([cells.elman(3), cells.elman(4)], 6, 3, outputs)
    answers = rng.integers(0, outputs, (length, 1)).astype(np.int32)
    if form == "many_to_one":
        answers[:-1] = SILENT
    ids = rng.integers(0, 6, (length, 1)).astype(np.int32)
    return net, net.init(jax.random.key(SEED % 2**31), jnp.float64), Steps(ids, np.array([length], np.int32), answers)


def test_the_forms_differ_in_where_an_answer_is_scored():
    vocabulary = tokens([["a", "b", "c"]], specials=(UNKNOWN, END))
    a, b, end = *vocabulary.encode(["a", "b"]), vocabulary.special(END)
    asked = {form: encoded(said, vocabulary)["answers"].tolist() for form, said in (
        ("many_to_many", tag("a b a", (1, 0, 1))),
        ("many_to_one", verdict(["a", "b", "a"], 1)),
        ("one_to_many", continued(["b", "a", "b", "never"])),
    )}  # fmt: skip
    assert asked == {"many_to_many": [1, 0, 1], "many_to_one": [-1, -1, 1], "one_to_many": [a, b, 0, end]}


@pytest.mark.parametrize("form", FORMS)
def test_the_terms_gradients_are_those_of_lag_matrix_and_add_up(form):
    net, params, batch = drawn(form, 6)
    found = terms_of(net)(params, batch)
    xs = params.embed["params"]["embedding"][batch.ids]

    def each(ys):
        logits = ys @ params.readout["params"]["kernel"] + params.readout["params"]["bias"]
        said = jax.nn.log_softmax(logits)
        picked = jnp.take_along_axis(said, jnp.maximum(batch.answers, 0)[..., None], -1)[..., 0]
        return jnp.where(batch.answers >= 0, -picked, 0)

    expected = probes.lag_matrix(net.cells, params.stack, xs, each).joint[..., 0]
    np.testing.assert_allclose(np.exp(found.norms), np.exp(expected), rtol=1e-9, atol=1e-14)
    later, earlier = np.tril_indices(6, -1)
    assert np.all(found.norms[:, earlier, later] == -np.inf)
    assert np.all(np.isfinite(found.norms[:, later[later == 5], earlier[later == 5]]))
    assert float(found.losses.sum()) == pytest.approx(float(found.total), rel=1e-12)
    assert 0 <= found.gap < 1e-12


def test_the_gap_is_seen_where_terms_do_not_add_up(monkeypatch):
    net, params, batch = drawn("many_to_many", 5)
    loss = Network.loss
    monkeypatch.setattr(Network, "loss", lambda *args: loss(*args)._replace(each=1.5 * loss(*args).each))
    assert terms_of(net)(params, batch).gap > 0.3


def test_a_gradient_of_zero_has_no_gap():
    net, params, batch = drawn("many_to_many", 5)
    sure = jax.tree.map(jnp.zeros_like, params.readout)
    sure["params"]["bias"] = jnp.array([2000.0, 0.0])
    found = terms_of(net)(params._replace(readout=sure), batch._replace(answers=np.zeros_like(batch.answers)))
    assert found.total == found.gap == 0 and np.all(found.norms == -np.inf)


def test_padding_and_empty_rows_change_no_loss():
    net, params, batch = drawn("many_to_many", 4)
    pad = lambda a: np.pad(a, [(0, 3), (0, 1)], constant_values=1)  # noqa: E731
    padded = Steps(pad(batch.ids), np.array([4, 0], np.int32), pad(batch.answers))
    one, two = (jax.jit(net.loss)(params, None, b, None) for b in (batch, padded))
    np.testing.assert_allclose([*one.each, 0], two.each, rtol=1e-12)
    assert two.count.tolist() == [1, 0] and two.aux["asked"].tolist() == [4, 0]


def test_the_generator_reads_what_it_wrote():
    net, params, _ = drawn("one_to_many", 4)
    first = np.array([[2]], np.int32)
    written = jax.jit(lambda first: net.greedy(params, first, 5, never=0))(first)
    ids = np.concatenate([first[0], written])[:, None]
    logits, _ = net.logits(params, ids[:-1])
    np.testing.assert_array_equal(logits[:, 0].at[:, 0].set(-jnp.inf).argmax(-1), written)


def test_a_vocabulary_has_at_most_so_many_words():
    said = [Said(("a", "b", "a"), (0, 1, 0))]
    task = forms.Task("many_to_many", "x", "y", {"train": said}, said[0], 0)
    assert vocabulary_of(task, 3).tokens == (UNKNOWN, END, "a")


def test_a_run_leaves_every_sum(run):
    rows = run.rows()
    for form in FORMS:
        for seed in range(2):
            for when in ("before", "after"):
                [row] = [r for r in rows if r["kind"] == "terms" and (r["form"], r["seed"], r["when"]) ==
                         (form, seed, when)]  # fmt: skip
                assert sum(row["losses"]) == pytest.approx(row["total"], rel=1e-5)
                assert row["gap"] < 1e-4 and row["ahead_zero"] and row["apart"] < 1e-5
                assert run.load(f"{form}_seed{seed}_{when}")["norms"].shape[1:] == (len(row["losses"]),) * 2
    table = (run.path / "table.txt").read_text()
    assert "seen in training" in table and "unseen" in table and "the reader's own" in table
    [data] = [r for r in rows if r["kind"] == "data" and r["form"] == "many_to_many"]
    assert data["seen"] and not data["held_out"] and data["answers"] == list("1010000")
    assert (run.path / "figure.png").stat().st_size > 10_000


def asked(run, *given: str, **how: str) -> list[dict]:
    predict = forms.predictor(run, forms.Predicting(**how))
    answers = [list(predict(text)) for text in given]
    assert all(len(one) == 1 for one in answers)
    json.dumps([one[0].row for one in answers], allow_nan=False)
    return [one[0].row for one in answers]


def test_it_is_asked_in_all_three_forms(run):
    usual, empty, odd, long = asked(run, "Bob told a b", "", "\0 🙂 क्या \x1b", "a b " * 5000)
    assert len(usual["tags"]) == 4 and usual["unknown_many_to_many"] == 2 and usual["label"] in ("negative", "positive")
    assert usual["first"] == ["bob"] and len(usual["written"]) <= 5 and usual["unknown_one_to_many"] == 1
    assert empty["tags"] == [] and empty["label"] is None and empty["written"] == []
    assert odd["unknown_many_to_one"] == len(odd["words"])
    assert len(long["tags"]) == 10_000


def test_one_form_alone_is_asked(run):
    [row] = asked(run, "a b", form="one_to_many")
    assert {*row} == {"text", "words", "first", "written", "ended", "unknown_one_to_many"}


def test_an_example_is_a_batch_of_one():
    vocabulary = tokens([["a", "b"]], specials=(UNKNOWN, END))
    batch = alone(verdict(["b", "a"], 1), vocabulary)
    assert batch.ids.shape == batch.answers.shape == (2, 1) and np.asarray(batch.scored).tolist() == [[False], [True]]
