"""The wait before the first step is seen: a line in a log, a bar on a terminal that goes away."""

import io
import re
import shutil
from pathlib import Path

import pytest
import terminals
from rich.console import Console

from mgd.cli import main, progress
from mgd.cli.lines import printable
from mgd.cli.progress import RichReporter

SMALL = ["--size", 16, "-b", 40, "-j", 0, "--tensorboard", 0]
WAITS = ["reading every image once ...", "measuring the teacher ...", "matching channels ..."]
CLEARED = re.compile(r"\x1b\[[\d;?]*\w")


def distil(photos, teacher, *words):
    given = ["distill", photos, "--teacher-resume", teacher, "--arch", "cifar_resnet8_x0_25"]
    return main([str(word) for word in (*given, *SMALL, *words)])


def test_in_a_log_each_wait_is_a_line_once(run, photos, capsys):
    assert distil(photos, run, "--epochs", 3, "--skip-bad-images") == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("epoch 1/3"))
    assert [line for line in lines[:first] if line.endswith(" ...")] == WAITS
    assert not [line for line in lines[first:] if line.endswith(" ...")]


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 80 columns; returns what was written to it."""
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda: console)
    return file


def frames(text):
    """Returns what stood on each line of a terminal, without what moves the cursor."""
    return [line.rstrip() for line in re.split(r"[\r\n]+", CLEARED.sub("", text)) if line.strip()]


def test_on_a_terminal_each_wait_is_a_bar_and_epochs_go_on(run, photos, screen):
    assert distil(photos, run, "--epochs", 2, "--skip-bad-images", "--experiment", "x") == 0
    shown = frames(screen.getvalue())
    for wait in WAITS:
        assert any(line.startswith(wait[:-4]) and "batches" in line for line in shown)
        assert wait not in shown
    places = [place for place, line in enumerate(shown) if line.startswith("matching channels")]
    first = next(place for place, line in enumerate(shown) if line.startswith("epoch 1/2  lr"))
    assert places[0] < first < places[-1]  # in epoch 2 again, while the epoch's bar is there
    assert [line for line in shown if len(line) > 80] == []


STEP = {"train_top1": 70.12, "images_per_s": 12345.0, "loss": 45.1064, "loss_ce": 4.0062}
STEP |= {"loss_kd": 1.2345, "loss_mgd_1": 14.249, "loss_mgd_2": 14.512, "loss_mgd_3": 12.339}


def shown_at(console, **changes):
    """Returns the lines of a live display."""
    reporter = RichReporter()
    reporter.start(50_000)
    reporter.best(114, 78.312)
    reporter.start_epoch(119, 120, 5004, 10)
    reporter.step(2000, {**STEP, **changes})
    before = console.file.tell()
    reporter._progress.refresh()
    lines = frames(console.file.getvalue()[before:])
    reporter.close()
    return lines


@pytest.fixture
def wide(monkeypatch):
    """Makes a terminal of so many columns."""

    def make(columns):
        console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
        monkeypatch.setattr(progress, "Console", lambda: console)
        return console

    return make


def test_the_display_tells_where_the_epoch_is(wide):
    bar, figures, losses = shown_at(wide(80))
    assert re.fullmatch(r"epoch 120/120 [━╸╺ ]+ left [-\d:]+", bar)
    assert figures == (
        "  step 2000/5004  12345 images/s  training Acc@1 70.1  best 78.312 at epoch 115"
    )
    assert losses == ("  loss 45.11  (ce 4.006  kd 1.234  mgd_1 14.25  mgd_2 14.51  mgd_3 12.34)")


@pytest.mark.parametrize("columns", [32, 40, 60, 80, 120, 200])
def test_the_display_fits_every_terminal_and_loses_nothing(wide, columns):
    lines = shown_at(wide(columns))
    assert max(map(len, lines)) <= columns
    assert len(lines[0]) <= 80
    assert len(lines) >= 3
    text = " ".join(line.strip() for line in lines)
    for figure in ("epoch 120/120", "left", "step 2000/5004", "12345 images/s", "mgd_3 12.34)"):
        assert figure in text
        assert any(figure in line for line in lines)
    assert "best 78.312 at epoch 115" in text


def test_a_step_without_a_label_has_no_accuracy(wide):
    lines = shown_at(wide(80), train_top1=float("nan"))
    assert "Acc@1" not in " ".join(lines)
    assert "nan" not in " ".join(lines)


def test_a_wait_within_an_epoch_takes_the_place_of_the_epochs_line(screen):
    reporter = RichReporter()
    reporter.start_epoch(119, 120, 5004, 10)
    reporter.step(2000, STEP)
    reporter._progress.refresh()
    before = screen.tell()
    for _ in reporter.watch("matching channels")(iter("abc"), 3):
        reporter._progress.refresh()
    during = frames(screen.getvalue()[before:])
    assert any(line.startswith("matching channels") for line in during)
    waits = [place for place, line in enumerate(during) if line.startswith("matching")]
    assert not any("epoch" in line or "step" in line for line in during[: waits[-1]])
    assert max(map(len, during)) <= 80
    after = frames(screen.getvalue())[-3:]
    assert after[0].startswith("epoch 120/120")
    assert after[1].startswith("  step 2000/5004")
    reporter.close()


def test_a_wait_that_fails_takes_its_bar_away(screen):
    reporter = RichReporter()

    def broken():
        yield 1
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        list(reporter.watch("measuring the student")(broken(), 2))
    assert not reporter._progress.tasks
    reporter.close()


def test_an_error_in_the_middle_of_a_bar_gives_the_terminal_back(run, photos, here):
    shutil.copytree(photos, "photos")
    Path("photos/valid/two/two25.png").write_text("no image")
    code, text = terminals.show(here, "evaluate", "photos", "--model", run, "-j", 0)
    assert code == 2, text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is there again
    end = text[text.rindex("\x1b[?25h") :]
    assert frames(end) == [frames(end)[0]]
    assert frames(end)[0].startswith("mgd: cannot read image 'photos/valid/two/two25.png'")
    assert "measuring the student" in text


@pytest.mark.parametrize("columns", [40, 120])
def test_an_interrupt_takes_the_display_away(photos, here, columns):
    words = ["--arch", "cifar_resnet8_x0_25", *SMALL, "--epochs", 1000, "-p", 1]
    code, text = terminals.show(
        here, "train", photos, *words, columns=columns, at="images/s", typed="\x03"
    )
    assert code == 130, text
    # Control-C itself is echoed by the terminal.
    shown = [line for line in frames(text[text.rindex("\x1b[?25l") :]) if line != "^C"]
    assert any(line.startswith("epoch 1/1000") for line in shown)
    end = text[text.rindex("\x1b[?25h") :]
    assert "".join(frames(end)) == "mgd: stopped by SIGINT after saving; go on with --resume auto"


def test_a_warning_beside_a_bar_has_lines_of_its_own(photos, here):
    words = ["--arch", "cifar_resnet8_x0_25", "--teacher", "cifar_resnet8_x0_25", *SMALL]
    words += ["--use-pretrained", 0, "--epochs", 1]
    code, text = terminals.show(here, "distill", photos, *words)
    assert code == 0, text
    shown = frames(text)
    assert any(line.startswith("measuring the teacher") for line in shown)
    (line,) = (line for line in shown if "WARNING: the teacher" in line)
    assert line.startswith("WARNING: ")


def test_the_opening_lines_fit_long_paths_and_many_classes(here, trained, photos, told):
    deep = here / "/".join(["a very long folder name"] * 6) / ("x" * 100)
    deep.mkdir(parents=True)
    shutil.copy(trained / "student.safetensors", deep)
    data = deep / "photos"
    for part in ("train", "valid"):
        for number in range(30):
            folder = data / part / f"a class with a long name {number}"
            folder.mkdir(parents=True)
            shutil.copy(photos / "valid" / "one" / "one20.png", folder)
    words = ["--student-resume", deep / "student.safetensors", *SMALL, "--epochs", 1]
    lines = told("train", data, *words)
    first = next(place for place, line in enumerate(lines) if line.startswith("epoch "))
    opening = lines[:first]
    assert max(map(len, opening)) <= 80
    text = "".join(line.strip() for line in opening).replace(" ", "")
    assert f"{data}:30imagestotrain,30tovalidate".replace(" ", "") in text
    assert str(deep / "student.safetensors").replace(" ", "") in text
    assert any(re.fullmatch(r" {9}30 classes: a class with .*…", line) for line in opening)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.png", "plain name.png"),
        ("Übergröße 日本　語", "Übergröße 日本　語"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202egnp.exe", r"\u202egnp.exe"),  # would be shown from right to left
        ("\udcff", r"\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_its_escape(name, shown):
    assert printable(name) == shown


def test_names_of_classes_do_not_move_the_cursor(here, photos, told, refused):
    data = Path(shutil.copytree(photos, here / "photos"))
    for part in ("train", "valid"):
        (data / part / "two").rename(data / part / "two\x1b[2J")
    lines = told("train", data, "--arch", "cifar_resnet8_x0_25", *SMALL, "--epochs", 1)
    assert r"         4 classes: one, three, two\x1b[2J, zero" in lines
    for part in ("train", "valid"):
        (data / part / "two\x1b[2J").rename(data / part / "two")
    run = "runs/cifar_resnet8_x0_25-base"
    line = refused("evaluate", data, "--model", run)
    assert r"the network has 4: one, three, two\x1b[2J, zero" in line
    assert "\x1b" not in line
