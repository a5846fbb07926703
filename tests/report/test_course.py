"""The course of the matching point by point, and how much smaller a student is."""

import re
from dataclasses import replace

import pytest
from reported import POINT, make_run, read_page

from mgd.report import write_report
from mgd.report.background import each_run
from mgd.report.groups import group_runs
from mgd.report.summary import summarize
from mgd.report.updates import panels_of
from mgd.runfolder import PointUpdate


def update(epoch, cost, churn=0.5, teacher="t1", student="s1"):
    return PointUpdate(
        epoch=epoch, teacher=teacher, student=student, cost_before=2.0, cost_after=cost,
        churn=churn, dead_channels=0, images=10, seconds=1.0,
    )  # fmt: skip


def test_a_curve_is_the_mean_over_the_runs_at_each_update(tmp_path):
    runs = [make_run(tmp_path, f"a-seed{i}", 70.0, "mgd", seed=i) for i in range(2)]
    runs[0].updates.extend([update(0, 1.0, 1.0), update(5, 0.5, 0.2), update(10, 0.4, 0.1)])
    runs[1].updates.extend([update(0, 1.2, 0.8), update(5, 0.7, 0.4)])
    (group,) = group_runs(runs)
    (panel,) = panels_of(group)
    (cost,), (churn,) = panel.costs, panel.churns
    assert (cost.name, cost.epochs) == ("t1 → s1", [1, 6])
    assert cost.mean == pytest.approx([1.1, 0.6])
    assert (cost.low, cost.high) == ([1.0, 0.5], [1.2, 0.7])
    assert churn.mean == pytest.approx([0.9, 0.3])


@pytest.mark.parametrize(
    ("points", "panels"), [(1, [1]), (4, [4]), (5, [4, 1]), (13, [4, 4, 4, 1])]
)
def test_few_points_are_in_a_picture_and_differ(tmp_path, points, panels):
    run = make_run(tmp_path, "a", 70.0, "mgd")
    for epoch in range(2):
        run.updates.extend(update(epoch, 1.0, teacher=f"t{i}") for i in range(points))
    found = panels_of(group_runs([run])[0])
    assert [len(panel.costs) for panel in found] == panels
    assert [c.name for panel in found for c in panel.costs] == [f"t{i} → s1" for i in range(points)]
    for panel in found:
        assert len({curve.colour for curve in panel.costs}) == len(panel.costs)
        assert len({curve.dashes for curve in panel.costs}) == len(panel.costs)
        assert [c.key for c in panel.costs] == [c.key for c in panel.churns]


def test_one_update_is_no_course(tmp_path):
    run = make_run(tmp_path, "a", 70.0, "mgd", points=[POINT])
    assert len(run.updates) == 1
    assert panels_of(group_runs([run])[0]) == []


def test_the_page_draws_every_point(tmp_path):
    run = make_run(tmp_path, "<b>a", 70.0, "mgd", 90.0, [POINT])
    run.updates[:] = [update(e, 1 / (e + 1), teacher=f"<i>{i}") for e in (0, 5) for i in range(6)]
    write_report([run], tmp_path / "report.html", "Title")
    read = read_page(tmp_path / "report.html")
    labels = [v["aria-label"] for tag, v in read.elements if tag == "svg" and "aria-label" in v]
    drawn = [label for label in labels if "after each update" in label]
    assert len(drawn) == 2
    assert "of <b>a" in drawn[0]
    assert "<i>5 → s1: 0.17 at epoch 6" in read.texts
    assert not {"b>a", "i"} & set(read.tags)


def test_a_run_knows_how_much_smaller_its_student_is(tmp_path):
    run = make_run(tmp_path, "kd", 70.0, "kd", 90.0)
    assert summarize([run])[0].compression is None
    parameters = {"student_parameters": 1000, "teacher_parameters": 4500}
    run = replace(run, result=replace(run.result, **parameters))
    (summary,) = summarize([run])
    assert summary.compression == 4.5
    write_report([run], tmp_path / "report.html", "Title")
    text = (tmp_path / "report.html").read_text()
    headline = re.sub("<.*?>", "", re.search(r'class="headline">(.*?)</p>', text)[1])
    assert "It has 1\xa0000 parameters, 4.5 times fewer than its teacher (4\xa0500)." in headline
    assert "<td>4.5 ×</td>" in text


def test_of_an_earlier_run_the_teachers_own_run_tells(tmp_path):
    teacher = make_run(tmp_path, "big", 90.0, arch="large")
    options = {"teacher": "large", "teacher-resume": "x/big/student.safetensors"}
    run = make_run(tmp_path, "kd", 70.0, "kd", 90.0, **options)
    teacher = replace(teacher, result=replace(teacher.result, trained_parameters=2469134))
    assert [each.compression for each in summarize([teacher, run])] == [None, 2.0]


def test_a_run_that_ended_early_says_so(tmp_path):
    """As `--patience` ends one; a run that came to its end has no such line."""
    early = make_run(tmp_path, "early", 70.0)
    early = replace(early, result=replace(early.result, stopped_after=2))
    told = "Ended by --patience after epoch 2: the accuracy was no better."
    assert told in each_run([early])
    assert told not in each_run([make_run(tmp_path, "whole", 70.0)])
