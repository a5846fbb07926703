"""Groups and summaries: which runs belong together, and right numbers of them."""

import statistics
from dataclasses import replace

import pytest
from reported import POINT, make_run

from mgd.report import HEADINGS, summarize
from mgd.report.groups import group_runs


def named(runs):
    return [(group.name, [run.name for run in group.runs]) for group in group_runs(runs)]


def test_seeds_named_by_hand_are_one_group(tmp_path):
    runs = [
        make_run(tmp_path, "red", 70.0, seed=0, experiment="red", workers=1),
        make_run(tmp_path, "kd", 70.0, "kd", seed=0, experiment="kd"),
        make_run(tmp_path, "green", 72.0, seed=1, experiment="green", workers=4),
    ]
    assert named(runs) == [("red, green", ["red", "green"]), ("kd", ["kd"])]
    assert summarize(runs)[0].cells()[:2] == ("red, green", "71.0 ± 1.4")


def test_many_names_are_cut(tmp_path):
    runs = [make_run(tmp_path, f"r{seed}", seed=seed) for seed in range(5)]
    assert [name for name, _ in named(runs)] == ["r0, r1, r2 and 2 more"]


def test_another_option_is_another_group_whatever_the_names_say(tmp_path):
    runs = [make_run(tmp_path, f"kd-seed{i}", 70.0, seed=i, lr=lr) for i, lr in enumerate((1, 2))]
    assert named(runs) == [("kd-seed0", ["kd-seed0"]), ("kd-seed1", ["kd-seed1"])]


def test_equal_seeds_are_kept_apart_by_name(tmp_path):
    runs = [
        make_run(tmp_path, f"{name}-seed{seed}", seed=seed)
        for name in ("before", "after")
        for seed in (0, 1)
    ]
    assert named(runs) == [
        ("before", ["before-seed0", "before-seed1"]),
        ("after", ["after-seed0", "after-seed1"]),
    ]


def test_a_teacher_for_each_seed_is_no_difference(tmp_path):
    runs = [
        make_run(tmp_path, f"kd-seed{i}", seed=i, **{"teacher-resume": f"runs/t-seed{i}/x"})
        for i in (1, 11)
    ]
    assert named(runs) == [("kd", ["kd-seed1", "kd-seed11"])]
    runs[1].options["teacher-resume"] = "runs/t-seed1/x"  # another seed's
    assert len(group_runs(runs)) == 2


def test_folders_of_one_name_are_told_apart(tmp_path):
    runs = [make_run(tmp_path / where, "kd", lr=lr, seed=0) for where, lr in (("a", 1), ("b", 2))]
    assert [name for name, _ in named(runs)] == ["a/kd", "b/kd"]
    runs = [make_run(tmp_path / where / "x", "kd", lr=where, seed=0) for where in ("c", "d")]
    assert [name for name, _ in named(runs)] == ["x/kd (1)", "x/kd (2)"]


def test_runs_without_a_seed_are_grouped_by_name(tmp_path):
    runs = [make_run(tmp_path, name) for name in ("a-seed0", "b-seed0", "a-seed1")]
    assert named(runs) == [("a", ["a-seed0", "a-seed1"]), ("b", ["b-seed0"])]


def test_the_gap_recovered_is_its_formula(tmp_path):
    alone = [make_run(tmp_path, f"alone-seed{i}", a) for i, a in enumerate((80.0, 82.0, 84.0))]
    taught = [
        make_run(tmp_path, f"mgd-seed{i}", a, "mgd", teacher_top1=98.0)
        for i, a in enumerate((89.0, 90.0, 91.0))
    ]
    first, second = summarize(alone + taught)
    assert (first.group, first.runs, first.accuracy, first.gap_recovered) == ("alone", 3, 82, None)
    assert first.spread == statistics.stdev((80, 82, 84))
    assert second.gap_recovered == pytest.approx((90 - 82) / (98 - 82))
    assert second.cells()[:3] == ("mgd", "90.0 ± 1.0", "+50 %")
    assert second.cells()[3] == "1 234 567"
    assert len(second.cells()) == len(HEADINGS)


def test_a_student_worse_than_alone_has_a_negative_gap(tmp_path):
    runs = [
        make_run(tmp_path, "alone", 90.0),
        make_run(tmp_path, "kd", 86.0, "kd", teacher_top1=98.0),
    ]
    assert summarize(runs)[1].cells()[1:3] == ("86.0", "-50 %")


@pytest.mark.parametrize("other", [{"arch": "wide"}, {"data": "cifar"}, {"train-images": 50}])
def test_a_student_alone_of_another_setting_is_no_baseline(tmp_path, other):
    alone = make_run(tmp_path, "alone", 80.0, **other)
    taught = make_run(tmp_path, "mgd", 90.0, "mgd", teacher_top1=98.0)
    assert summarize([alone, taught])[1].gap_recovered is None


def test_the_teacher_is_no_baseline_though_it_is_the_same_network(tmp_path):
    teacher = make_run(tmp_path, "first", 80.0)
    path = {"teacher-resume": "runs/first/student.safetensors", "teacher": "net"}
    taught = make_run(tmp_path, "second", 90.0, "kd", teacher_top1=98.0, **path)
    summary = summarize([teacher, taught])[1]
    assert (summary.alone, summary.teacher_parameters) == (None, 1234567)


def test_of_two_students_alone_the_one_with_the_same_options_is_the_baseline(tmp_path):
    runs = [
        make_run(tmp_path, "short", 70.0, epochs=(1.0,), seed=0, lr=1),
        make_run(tmp_path, "long", 80.0, seed=0, lr=2),
        make_run(tmp_path, "kd", 90.0, "kd", teacher_top1=98.0, seed=0, lr=2),
    ]
    assert summarize(runs)[2].alone == 80.0


@pytest.mark.parametrize(
    ("alone", "teacher", "is_told"),
    [
        ((80.0,), 80.0, False),
        ((80.0,), 79.0, False),
        ((80.0,), 80.9, False),
        ((80.0,), 81.0, True),
        ((78.0, 82.0), 82.0, False),  # spread 2.8
        ((78.0, 82.0), 83.0, True),
    ],
)
def test_a_teacher_that_is_not_clearly_better_leaves_no_gap(tmp_path, alone, teacher, is_told):
    runs = [make_run(tmp_path, f"alone-seed{i}", a) for i, a in enumerate(alone)]
    summary = summarize([*runs, make_run(tmp_path, "kd", 85.0, "kd", teacher_top1=teacher)])[1]
    assert (summary.gap_recovered is not None) == is_told
    assert bool(summary.why_no_gap) == (not is_told)
    assert (summary.cells()[2] == "–") == (not is_told)


def test_differences_are_taken_seed_by_seed(tmp_path):
    runs = [make_run(tmp_path, f"a{i}", a, seed=i) for i, a in enumerate((80.0, 90.0))]
    runs += [
        make_run(tmp_path, f"k{i}", a, "kd", seed=i) for i, a in ((1, 91.0), (0, 83.0), (2, 1.0))
    ]
    alone, taught = summarize(runs)
    assert alone.difference is None
    found = taught.difference
    assert (found.mean, found.error, found.pairs) == (2.0, pytest.approx(1.0), 2)


def test_costs_are_means_over_points(tmp_path):
    run = make_run(tmp_path, "mgd", 90.0, "mgd", 98.0, [POINT, replace(POINT, first_cost=0.5)])
    assert summarize([run])[0].cost == (1.0, 0.5)


def test_a_run_that_has_not_ended_has_no_row(tmp_path):
    runs = [make_run(tmp_path, "going"), make_run(tmp_path, "done", 70.0)]
    assert [summary.group for summary in summarize(runs)] == ["done"]
