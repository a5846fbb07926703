"""Pairs of taps: the table, and plain values that are saved and read back."""

import pytest
import yaml
from inside_networks import Cnn, images, vit

import mgd
from mgd.inside import points_from_plain, points_to_plain


def test_points_print_as_a_table():
    points = mgd.discover_points(Cnn((8, 8, 16, 20)), Cnn(), images())
    header, *rows = str(points).splitlines()
    assert " ".join(header.split()) == "teacher student channels size G margin from pooled"
    path = "stages.3.1.2:input"
    assert rows[-1].split() == f"{path} {path} 20 -> 10 2x2 2 stages.3.1.1 -".split()


def test_points_survive_yaml():
    teacher, student = vit(), Cnn()
    points = mgd.discover_points(teacher, student, images())
    saved = yaml.safe_dump(points_to_plain(points))
    read = points_from_plain(teacher, student, yaml.safe_load(saved))
    with mgd.Distiller(teacher, student, points=read, example=images()) as distiller:
        assert [point.pair for point in distiller.points] == points


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"teacher": "stages.9", "student": "stages.0"}, "no module 'stages.9'; nearest: stages"),
        ({"teacher": "stages.0"}, "point 1 is .* needed is a mapping with `teacher` and `student`"),
        ("stages.0", "point 1 is 'stages.0'"),
        ({"teacher": "stages.0", "student": "stages.0", "norms": "x"}, "point 1 is"),
    ],
)
def test_unusable_entries_are_named(entry, message):
    with pytest.raises(mgd.TapError, match=message):
        points_from_plain(Cnn(), Cnn(), [entry])


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        ("stages.3.1.0", "is no BatchNorm"),
        ("stages.0.0.1", "has 4 channels, but .* BatchNorm of 10"),
        ("stages.3.1.bn", "no module 'stages.3.1.bn'"),
    ],
)
def test_a_norm_that_gives_no_margins_is_an_error(norm, message):
    teacher, student = Cnn(), Cnn()
    entry = {"teacher": "stages.3.1.2", "student": "stages.3.1.2", "norm": norm}
    points = points_from_plain(teacher, student, [entry])
    with pytest.raises(mgd.TapError, match=message):
        mgd.Distiller(teacher, student, points=points, example=images())


def test_a_pair_is_compared_at_the_smaller_height_and_the_smaller_width():
    pair = mgd.PointPair(mgd.Tap("a"), mgd.Tap("b"), None, (20, 8, 3), (6, 4, 5))
    assert pair.size == (4, 3)
    assert pair.resized == "teacher 8x3 -> 4x3, student 4x5 -> 4x3"
    assert pair.groups == 3


def test_a_pair_with_a_wider_student_has_one_teacher_channel_per_student_channel():
    assert mgd.PointPair(mgd.Tap("a"), mgd.Tap("b"), None, (4, 1, 1), (6, 1, 1)).groups == 1
