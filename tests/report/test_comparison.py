"""The picture of a comparison: a mark for each network, and labels that all can be read."""

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from mgd.report.comparison import _draw, draw_comparison, spread
from mgd.report.theme import LIGHT
from mgd.runfolder import ComparedNetwork, Cost, Latency


def network(name="net", accuracies=(90.0,), median=2.0, **others):
    latency = Latency(batch=1, median=median, low=0.9 * median, high=1.2 * median)
    cost = Cost(
        parameters=10,
        multiply_adds=20,
        file_bytes=30,
        size=8,
        classes=10,
        latencies=(latency,),
    )
    values = {"arch": "net", "source": "", "is_teacher": False, "cost": cost, **others}
    return ComparedNetwork(name=name, accuracies=tuple(accuracies), **values)


def axes_of(networks):
    (axes,) = _draw(LIGHT, networks).axes
    return axes


def test_a_mark_is_where_accuracy_and_latency_are():
    axes = axes_of([network("a", (80.0, 84.0), 2.0), network("b", (97.0,), 30.0, is_teacher=True)])
    marks = [line for line in axes.lines if line.get_marker() in ("o", "s")]
    assert [(line.get_marker(), *line.get_xydata()[0]) for line in marks] == [
        ("o", 2.0, 82.0),
        ("s", 30.0, 97.0),
    ]
    assert [text.get_text() for text in axes.texts] == ["a  82.0 %", "b  97.0 %"]
    low, high = axes.get_ylim()
    assert low < 79
    assert high > 97


@pytest.mark.parametrize(
    "accuracies",
    [
        [90.0] * 12,
        [float(value) for value in range(70, 90)],
        [50.0, *(99.0 + 0.01 * number for number in range(10))],
        [0.0],
    ],
)
def test_no_label_covers_another_or_a_mark(accuracies):
    names = ("plain", "a name as long as a sentence, longer than a line can be", "x$y_{2}$ <b>")
    networks = [
        network(f"{number} {names[number % 3]}", (accuracy,), 1.0 + number)
        for number, accuracy in enumerate(accuracies)
    ]
    figure = _draw(LIGHT, networks)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    renderer = canvas.get_renderer()
    # Of the text alone: an annotation's own extent has its line as well.
    boxes = [Text.get_window_extent(label, renderer) for label in axes.texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    inside = axes.get_window_extent(renderer)
    whole = figure.bbox
    for box in boxes:
        assert box.x0 > inside.x1
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [2.0, 2.0, 2.0, 9.0], [5.0, 1.0, 4.9], []])
def test_labels_keep_their_order_and_their_distance(values):
    heights = spread(values, (0.0, 10.0), 0.1)
    ordered = [height for _, height in sorted(zip(values, heights, strict=True))]
    assert all(b - a > 0.0999 for a, b in itertools.pairwise(ordered))
    if values == [1.0, 2.0, 3.0]:
        assert heights == pytest.approx([0.1, 0.2, 0.3])


def test_it_is_two_png_files_or_none():
    pictures = draw_comparison([network("$x\x07"), network("no cost", cost=None), network("b", ())])
    assert len(pictures) == 2
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]
    assert draw_comparison([network("b", ())]) == []


def test_agreement_is_not_called_accuracy():
    assert "agreement" in axes_of([network(is_agreement=True)]).get_ylabel()
    assert "agreement" not in axes_of([network()]).get_ylabel()
