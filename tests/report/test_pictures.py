"""Pictures: few lines to a panel, colours that can be seen, ribbons that lead to their channels."""

from dataclasses import replace

import pytest
from reported import POINT, make_run, wide_point

from mgd.report import figures
from mgd.report.curves import MOST, colours_of, curves_of, panels_of
from mgd.report.groups import group_runs
from mgd.report.losses import losses_of
from mgd.report.matching import MOST_CHANNELS, draw_points, order_of, shown_students, tips_of
from mgd.report.theme import DARK, LIGHT, SERIES, new_figure, to_png, to_svg


def accuracy(record):
    return record.valid_top1


def luminance(colour):
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_known_colours():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("ground", ["paper", "panel"])
def test_text_and_lines_stand_out_in_both_themes(theme, ground):
    """WCAG 2.2, level AA: 4.5 for text, 3 for what a picture is made of."""
    for role in ("ink", "soft", "accent"):
        assert contrast(theme[role], theme[ground]) >= 4.5, role
    for role in SERIES:
        assert contrast(theme[role], theme[ground]) >= 3, role


def test_both_themes_have_the_same_roles():
    assert list(LIGHT) == list(DARK)


@pytest.mark.parametrize("number", [1, 5, 6, 8, 20])
def test_a_panel_has_few_lines_that_differ_and_the_student_alone(tmp_path, number):
    runs = [make_run(tmp_path, "alone", 70.0, seed=0, lr=0)]
    runs += [make_run(tmp_path, f"kd{i}", 70.0, "kd", seed=0, lr=i) for i in range(number)]
    panels = panels_of(curves_of(group_runs(runs), accuracy))
    names = [curve.name for panel in panels for curve in panel]
    assert sorted(set(names)) == sorted(run.name for run in runs)
    for place, panel in enumerate(panels):
        assert len(panel) <= MOST
        assert panel[0].name == "alone"
        assert panel[0].is_faint == (place > 0)
        assert len({curve.colour for curve in panel}) == len(panel)
        assert len({curve.dashes for curve in panel}) == len(panel)
    assert len(names) == number + len(panels)


def test_students_alone_among_themselves_have_colours(tmp_path):
    groups = group_runs([make_run(tmp_path, name, 70.0, lr=name) for name in ("a", "b")])
    assert list(colours_of(groups).values()) == list(SERIES[:2])


def test_a_curve_is_the_mean_and_the_range_of_its_seeds(tmp_path):
    runs = [
        make_run(tmp_path, f"a-seed{i}", epochs=epochs)
        for i, epochs in enumerate(((10.0, 20.0, 30.0), (20.0, 40.0)))
    ]
    (curve,) = curves_of(group_runs(runs), accuracy)
    assert (curve.epochs, curve.mean) == ([1, 2], [15.0, 30.0])
    assert (curve.low, curve.high) == ([10.0, 20.0], [20.0, 40.0])


def test_shares_of_the_loss(tmp_path):
    losses = (("loss", 2.0), ("loss_ce", 3.0), ("loss_x", -1.0))
    (group,) = group_runs([make_run(tmp_path, "a", losses=losses)])
    run = group.runs[0]
    records = [replace(each, losses=dict(losses)) for each in run.epochs]
    (group,) = group_runs([replace(run, epochs=records)])
    found = losses_of(group)
    assert found.terms == {"ce": [3.0, 3.0], "x": [-1.0, -1.0]}
    assert found.shares == {"ce": [0.75, 0.75], "x": [0.25, 0.25]}


def test_a_term_that_is_always_zero_is_left_out(tmp_path):
    run = make_run(tmp_path, "a", losses=(("loss", 1.0), ("loss_ce", 0.0), ("loss_mgd_1", 1.0)))
    assert losses_of(group_runs([run])[0]) is None


def test_long_runs_keep_their_first_and_last_epoch(tmp_path):
    run = make_run(tmp_path, "a", epochs=(1.0,))
    losses = {"loss": 2.0, "loss_ce": 1.0, "loss_x": 1.0}
    records = [replace(run.epochs[0], epoch=epoch, losses=losses) for epoch in range(1001)]
    (group,) = group_runs([replace(run, epochs=records)])
    epochs = losses_of(group).epochs
    assert (epochs[0], epochs[-1]) == (1, 1001)
    assert len(epochs) < 200


def test_teacher_channels_are_ordered_by_their_students():
    point = replace(POINT, teacher_channels=6, matching=[[3, 0], [5, 1]])
    assert order_of(point) == [3, 5, 0, 1, 2, 4]
    assert tips_of(point)["s1:left"] == "student channel 1 follows teacher channels 0, 1"


def test_a_picture_of_many_channels_shows_the_first():
    point = wide_point(students=64, teachers=256)
    assert shown_students(point) == 32
    assert len(order_of(point)) == MOST_CHANNELS


@pytest.mark.parametrize(
    "point",
    [
        POINT,
        replace(POINT, teacher_channels=2, matching=[[0, 1, 1, 0, 1]]),  # a wider student
        replace(POINT, teacher_channels=900, matching=[[899, 3]]),
        wide_point(),
    ],
)
def test_every_ribbon_has_its_tip(point):
    svg = to_svg(lambda c: draw_points(c, [point], has_titles=False), "p", "t", tips_of(point))
    for tip in tips_of(point).values():
        assert f"<title>{tip}</title>" in svg


def test_a_ribbon_ends_at_its_channels():
    """Student 0 follows 1 and 2 of 4 teacher channels: the middle half of the last column."""
    drawn = {}

    def draw(colours):
        point = replace(POINT, matching=[[1, 0], [2, 3]])
        figure = draw_points(colours, [point], has_titles=False)
        drawn.update({patch.get_gid(): patch for patch in figure.axes[0].patches})
        return figure

    to_png(draw)
    right = drawn["s0:right"].get_path().vertices
    assert right[:, 1].min() == 0
    ends = right[right[:, 0] == right[:, 0].max(), 1]
    assert sorted(set(ends)) == pytest.approx([0.25, 0.5, 0.75])


def test_a_png_is_a_picture_in_the_light_theme(tmp_path):
    runs = [make_run(tmp_path, "a$b$", 70.0), make_run(tmp_path, "m", 9.0, "mgd", 9.0, [POINT])]
    for png in (figures.draw_curves(runs), figures.draw_matching(runs[1])):
        assert png.startswith(b"\x89PNG")
        assert len(png) > 5000


def test_text_and_ids_of_a_picture_stay_apart():
    """A text that looks like a reference or a colour of the drawing is not taken for one."""

    def draw(colours):
        figure, axes = new_figure(3, 2)
        axes[0, 0].set_title('id="a" #a0b100 url(#x)', color=colours["ink"])
        return figure

    svg = to_svg(draw, "name", "title")
    assert 'id="a" #a0b100 url(#x)</text>' in svg
    assert "fill: var(--ink)" in svg
