"""Learning curves: what is drawn are the numbers, thin for each seed and thick for their mean."""

import numpy as np
import pytest

from rnnlab import figures
from rnnlab.figures import Curve


def test_curves_and_chance_lines():
    draw = np.random.default_rng(0)
    steps, few = np.arange(1, 9), np.array([2, 8])
    losses, scores = draw.normal(size=(3, 8)), draw.normal(size=(3, 2))
    with figures.style():
        axis = figures.figure(3.0, 2.0).subplots()
        training = {"gru": Curve(steps, losses), "lstm": Curve(steps, losses[0])}
        chance = {"a $ of chance": 1.5, "bigrams": 0.5}
        figures.curves(axis, training, {"gru": Curve(few, scores)}, quantity="bits", chance=chance)
    lines = {line.get_label(): line for line in axis.get_lines() if not line.get_label().startswith("_")}
    assert list(lines) == ["gru, training", "gru, validation", "lstm, training"]
    np.testing.assert_array_equal(lines["gru, training"].get_ydata(), losses.mean(0))
    np.testing.assert_array_equal(lines["gru, validation"].get_xdata(), few)
    assert lines["gru, training"].get_linestyle() == "--" and lines["gru, validation"].get_linestyle() == "-"
    assert (
        lines["gru, training"].get_color()
        == lines["gru, validation"].get_color()
        != lines["lstm, training"].get_color()
    )
    thin = [line.get_ydata() for line in axis.get_lines() if line.get_linewidth() == 0.5]
    assert [len(one) for one in thin] == [8, 8, 8, 2, 2, 2] and np.array_equal(thin[:3], losses)
    levels = [line.get_ydata()[0] for line in axis.get_lines() if line.get_linestyle() == ":"]
    assert levels == [1.5, 0.5]
    assert [text.get_text() for text in axis.texts] == [r"a \$ of chance", "bigrams"]
    assert [text.get_position()[1] for text in axis.texts] == levels and axis.get_ylabel() == "bits"


def test_values_that_are_not_one_a_step():
    axis = figures.figure(3.0, 2.0).subplots()
    with pytest.raises(ValueError, match=r"curves: gru, training: expected values \[S, 3\], given \(1, 4\)"):
        figures.curves(axis, {"gru": Curve(np.arange(3), np.arange(4))}, {}, quantity="loss", chance={})
