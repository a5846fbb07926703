"""What the demo runs: its plan, without training."""

from pathlib import Path

import pytest

from mgd.cli.demo import METHODS, MORE, plan
from mgd.cli.main import main


@pytest.fixture
def planned():
    return plan(Path("demo"), seeds=2, lengths=[3, 10])


def test_the_teacher_is_trained_on_images_that_no_student_has(planned):
    teacher, *students = planned
    assert teacher.data.data == "demo/images/teacher"
    assert {run.data.data for run in students} == {"demo/images/student"}
    assert teacher.distillation.distiller == "none"


def test_every_method_is_run_at_both_lengths_and_all_seeds(planned):
    _, *students = planned
    taught = [name for name, own in METHODS.items() if own]
    names = {*METHODS, *(f"{name}{MORE}" for name in taught)}
    found = {(r.output.experiment, r.schedule.epochs) for r in students}
    assert found == {(f"{n}-seed{s}", e) for n in names for s in (0, 1) for e in (3, 10)}
    assert len(students) == len(found)


def test_only_a_student_with_a_teacher_gets_more_images(planned):
    for run in planned:
        is_more = "more" in run.output.experiment
        assert bool(run.data.unlabelled) == is_more
        assert not is_more or run.distillation.distiller != "none"


def test_numbers_below_one_are_refused_before_anything_is_written(tmp_path, capsys):
    folder = tmp_path / "demo"
    assert main(["demo", "--seeds", "0", "--output", str(folder)]) == 2
    assert "--seeds 0 must be at least 1" in capsys.readouterr().err
    assert not folder.exists()
