"""The picture of accuracies: where its dots are, and what it says."""

import pytest

from mgd.report.accuracies import _draw, draw_accuracies
from mgd.report.theme import LIGHT

SERIES = {
    "few": {"alone": [80.0, 82.0], "KD $x": [90.0, 91.0]},
    "more": {"KD $x": [95.0, 97.0], "MGD": [96.0]},
}


@pytest.fixture
def axes():
    (axes,) = _draw(LIGHT, SERIES, {"teacher": 98.2}).axes
    return axes


def test_each_run_has_a_dot_and_each_method_one_for_its_mean(axes):
    dots = [offset[0] for dots in axes.collections for offset in dots.get_offsets()]
    runs = [value for methods in SERIES.values() for values in methods.values() for value in values]
    assert sorted(dots) == sorted([*runs, 81.0, 90.5, 96.0, 96.0])


def test_methods_are_rows_and_the_series_lie_beside_each_other(axes):
    assert [label.get_text() for label in axes.get_yticklabels()] == ["alone", r"KD \$x", "MGD"]
    heights = {}
    for dots in axes.collections:
        for value, height in dots.get_offsets():
            heights[value] = round(float(height), 2)
    assert (heights[80.0], heights[90.0], heights[95.0]) == (-0.11, 0.89, 1.11)


def test_means_and_marks_are_written(axes):
    assert [text.get_text() for text in axes.texts] == [
        *("81.0", "90.5", "96.0", "96.0", "teacher 98.2")
    ]
    assert [line.get_xdata()[0] for line in axes.lines] == [98.2]


def test_it_is_a_png():
    assert draw_accuracies(SERIES, {}).startswith(b"\x89PNG")
