"""Lines: they fit a terminal of 80 columns, and have no decimals that the images cannot tell."""

import io

import pytest
from rich.console import Console

from mgd.cli import progress
from mgd.cli.commands import _outcome_lines, _score_line
from mgd.cli.lines import accuracies, decimals, folded
from mgd.cli.progress import RichReporter
from mgd.engine.loop.evaluation import Scores
from mgd.engine.options.config import DataConfig
from mgd.engine.run import Outcome
from mgd.runfolder import EpochRecord

MGD = {"loss": 45.106, "loss_ce": 4.006, "loss_kd": 1.2345}
MGD |= {"loss_mgd_1": 14.249, "loss_mgd_2": 14.512, "loss_mgd_3": 12.339}
SCORES = Scores(0.95814, 76.13, 92.862, 50_000, 1234.4, ())


def an_epoch(**changes):
    values = {
        "epoch": 11, "lr": 0.01, "losses": MGD, "train_top1": 70.0, "valid_loss": 1.0,
        "valid_top1": 76.13, "valid_top5": 92.862, "teacher_top1": 78.312, "images_per_s": 345.2,
        "data_wait": 0.03, "seconds": 9.0,
    }  # fmt: skip
    return EpochRecord(**{**values, **changes})


@pytest.fixture
def printed(monkeypatch):
    """Tells a reporter of an epoch, and returns the lines that it prints in a pipe."""

    def report(record, images, epochs=120, best=None, width=80):
        file = io.StringIO()
        monkeypatch.setattr(progress, "Console", lambda: Console(file=file, width=width))
        reporter = RichReporter()
        reporter.start(images)
        reporter.start_epoch(record.epoch, epochs, 10, 0)
        if best:
            reporter.best(*best)
        reporter.end_epoch(record)
        reporter.close()
        return file.getvalue().strip("\n").splitlines()

    return report


def test_a_typical_epoch_is_two_lines_with_all_figures(printed):
    assert printed(an_epoch(), 50_000) == [
        "epoch 12/120  lr 0.01  Acc@1 76.130 Acc@5 92.862  teacher 78.312  345 images/s",
        "  loss 45.11 (ce 4.006 kd 1.234 mgd_1 14.25 mgd_2 14.51 mgd_3 12.34) wait 3 %",
    ]


def test_without_a_teacher_there_is_one_loss(printed):
    plain = an_epoch(losses={"loss": 0.5, "loss_ce": 0.5}, teacher_top1=None)
    assert printed(plain, 160) == [
        "epoch 12/120  lr 0.01  Acc@1 76.1 Acc@5 92.9  345 images/s",
        "  loss 0.5 (ce 0.5) wait 3 %",
    ]


def test_an_epoch_of_many_terms_is_folded_between_two_figures(printed):
    terms = {f"loss_mgd_{number}": 12345.678 for number in range(12)}
    record = an_epoch(
        epoch=998, lr=9.5e-05, losses={**MGD, **terms}, images_per_s=123456.0, data_wait=1.0
    )
    lines = printed(record, 1_000_000, epochs=1000)
    assert max(map(len, lines)) <= 80
    words = " ".join(line.strip() for line in lines)
    for figure in ("lr 9.5e-05", "123456 images/s", "mgd_11 1.235e+04)", "wait 100 %"):
        assert figure in words
        assert any(figure in line for line in lines)


@pytest.mark.parametrize(
    ("best", "told"), [((4, 78.312), "best 78.3 at epoch 5"), ((11, 76.13), "best so far")]
)
def test_an_epochs_lines_tell_the_best_so_far(printed, best, told):
    plain = an_epoch(losses={"loss": 0.5, "loss_ce": 0.5}, teacher_top1=None)
    _, losses = printed(plain, 160, best=best)
    assert losses == f"  loss 0.5 (ce 0.5) wait 3 %, {told}"


def test_the_best_so_far_has_a_line_of_its_own_where_there_is_no_room(printed):
    lines = printed(an_epoch(), 50_000, best=(4, 78.312))
    assert lines[2:] == ["  best 78.312 at epoch 5"]
    assert max(map(len, lines)) <= 80


def test_an_epochs_lines_fit_a_narrow_terminal(printed):
    lines = printed(an_epoch(), 50_000, best=(4, 78.312), width=44)
    assert max(map(len, lines)) <= 44
    assert lines[0] == "epoch 12/120  lr 0.01"
    assert [line for line in lines if line.startswith("epoch")] == lines[:1]


@pytest.mark.parametrize(
    ("images", "places"),
    [(1, 1), (160, 1), (1000, 1), (1001, 2), (10_000, 2), (10_001, 3), (50_000, 3)],
)
def test_decimals_are_as_many_as_the_images_can_tell(images, places):
    assert decimals(images) == places
    if places > 1:
        assert 100 / images < 10 ** (1 - places)  # with one less, two results would look alike
    assert accuracies(50, 100, images) == f"Acc@1 50.{'0' * places} Acc@5 100.{'0' * places}"


def test_a_part_that_is_too_long_is_not_broken():
    long = "a-long name " * 10
    assert folded(["one", long.strip(), "two"]).splitlines() == [
        "one",
        f"  {long.strip()}",
        "  two",
    ]


def test_the_line_of_a_network_fits():
    line = f"{_score_line('teacher on test', SCORES)}"
    assert line == "teacher on test: Acc@1 76.130 Acc@5 92.862 loss 0.9581 on 50000 images"


def outcome_lines(tmp_path, test, data, images=160):
    best = {"epoch": 11.0, "top1": 76.13, "top5": 92.862}
    outcome = Outcome(tmp_path / "run", best, test, SCORES, 1, 1.0, images)
    *lines, folder = _outcome_lines(outcome, data)
    assert folder == f"run folder: {tmp_path / 'run'}"
    assert max(map(len, lines)) <= 80
    return lines


def test_the_end_of_a_run_says_on_which_images_the_epoch_was_chosen(tmp_path):
    data = DataConfig(data=str(tmp_path))
    (tmp_path / "valid").mkdir()
    assert outcome_lines(tmp_path, None, data) == [
        "best epoch 12, chosen on valid: Acc@1 76.1 Acc@5 92.9",
        "teacher on valid: Acc@1 76.130 Acc@5 92.862 loss 0.9581 on 50000 images",
    ]


@pytest.mark.parametrize("folder", ["valid", "val"])
def test_with_held_out_images_it_says_what_the_test_is(tmp_path, folder):
    (tmp_path / folder).mkdir()
    lines = outcome_lines(tmp_path, SCORES, DataConfig(data=str(tmp_path), holdout=0.1), 50_000)
    assert lines[:2] == [
        "best epoch 12, chosen on held-out training images: Acc@1 76.130 Acc@5 92.862",
        f"test: the images of the folder {folder}, which chose nothing",
    ]
    assert [line.partition(":")[0] for line in lines[2:]] == ["student on test", "teacher on test"]


def test_the_digits_have_a_test_part_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = outcome_lines(tmp_path, SCORES, DataConfig(data="digits", holdout=0.1))
    assert "chosen on held-out training images" in lines[0]
    assert not any("folder" in line for line in lines)
