"""The command line from outside: one line and exit code 2 for whatever cannot be used."""

import csv
import importlib
import logging
import multiprocessing
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import mgd
from mgd.cli import main
from mgd.cli.main import COMMANDS
from mgd.runfolder import read_epochs

FAST = ["--size", "8", "--arch", "cifar_resnet8_x0_25", "--train-images", "20", "-b", "10"]
FAST += ["-j", "0", "--epochs", "1", "--tensorboard", "0"]
TEACHER = ["--teacher", "cifar_resnet8_x0_5", "--use-pretrained", "0"]


pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


@pytest.fixture
def here():
    return Path.cwd()


@pytest.fixture
def fault(capsys, here):
    """Runs a command that must fail cleanly, and returns its one line."""

    def run(*words):
        before = sorted(here.rglob("*"))
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr()
        # What a run is made of may be said before what is wrong with it.
        assert not said.out or said.out.startswith("data     ")
        assert re.fullmatch(r"mgd: [^\n]+\n", said.err)
        assert sorted(here.rglob("*")) == before
        return said.err

    return run


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("fly", "unknown command 'fly'; choose one of train, distill"),
        ("train", "the following arguments are required: DATA; see mgd train --help"),
        ("distill --epochs 3", "the following arguments are required: DATA; see mgd distill"),
        ("train digits --fly 1", "unrecognized arguments: --fly 1"),
        ("train nowhere", "data folder 'nowhere' does not exist"),
        ("train digits --epochs 0", "--epochs 0 is out of range; give at least 1"),
        ("train digits --epochs -5", "--epochs -5 is out of range"),
        ("train digits --epochs many", "'many' is not usable, give a whole number"),
        ("train digits --epochs 1.5", "'1.5' is not usable, give a whole number"),
        ("train digits --lr 0", "--learning-rate 0.0 is out of range; give a number above 0"),
        ("train digits --lr nan", "--learning-rate nan is out of range; give a number above 0"),
        ("train digits --lr fast", "'fast' is not usable, give a number"),
        ("train digits --wd inf", "--wd inf is out of range"),
        ("distill digits --loss-factor -1", "give a number above 0, or auto"),
        ("distill digits --mgd-reducer max", "invalid choice: 'max'"),
        ("train digits --arch resnet51", "unknown network 'resnet51'; nearest: resnet50"),
        ("train digits --arch torchvision:nope", "torchvision has no classifier 'nope'"),
        ("train digits --arch os:nope", "network 'os:nope' cannot be imported"),
        ("train digits --train-images 5", "--train-images 5 must be from 10"),
        ("train digits --resume none.ckpt", "checkpoint 'none.ckpt' does not exist"),
        ("train digits --student-resume none.pth", "weights 'none.pth' do not exist"),
        ("distill digits --teacher-resume none.pth", "weights 'none.pth' do not exist"),
        ("train digits --rank 1", "--rank 1 must be below --world-size 1"),
        ("train digits --start-epoch 120", "--start-epoch 120 leaves nothing to train"),
        ("train digits -c none.yaml", "-c none.yaml cannot be read"),
        ("evaluate digits", "nothing to evaluate: give --student-resume FILE"),
        ("points --student nope", "unknown network 'nope'"),
        ("points --student resnet18 --size 0", "--size 0 is out of range; give from 2 to 4096"),
        ("report none", "'none' is no run folder"),
        ("export none", "weights 'none' do not exist; give the path of a checkpoint file"),
        ("demo --seeds 0", "--seeds 0 must be at least 1"),
    ],
)
def test_what_cannot_be_used_is_one_line(fault, words, reason):
    fast = [*FAST, *TEACHER] if words.split()[0] == "distill" else []
    if words.startswith("train digits") and "--arch" not in words:
        fast = FAST
    command, *rest = words.split()
    assert reason in fault(command, *(fast if rest else ()), *rest)


def test_no_command_shows_them_all(capsys):
    assert main([]) == 2
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"mgd {name} " in text for name in COMMANDS)
    assert "not Masked Generative Distillation" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"usage: mgd {command}" in text
    if command == "distill":
        assert "arxiv.org/abs/2008.09958" in text
        assert "Not Masked Generative Distillation" in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a: [", "cannot be read as YAML"),
        ("just words", "holds no options"),
        ("epoch: 3", "unknown option 'epoch'"),
        ("3: 4", "unknown option '3'"),
        ("epochs: soon", "'soon' is not usable"),
        ("epochs: [1, 2]", "'1 2' is not usable"),
        ("epochs: 0", "--epochs 0 is out of range"),
        ("arch: os:getcwd", "arch 'os:getcwd' would run code named in a file"),
        ("teacher: os:getcwd", "would run code named in a file; give --teacher on the command"),
        ("x: !!python/object/apply:os.mkdir [obeyed]", "cannot be read as YAML"),
        (b"\xff\xfe\xff", "cannot be read as YAML"),
    ],
)
def test_a_bad_config_is_one_line(fault, tmp_path, content, reason):
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert reason in fault("train", "digits", "-c", path)


def test_a_line_break_in_a_name_is_still_one_line(fault):
    fault("train", "no\nwhere")
    fault("report", "no\nwhere")


def test_a_bad_points_file_is_one_line(fault, tmp_path):
    path = tmp_path / "points.yaml"
    words = ["distill", "digits", *FAST, *TEACHER, "--points", path]
    assert "cannot be read as YAML" in fault(*words)
    path.write_text("teacher: relu")
    assert "holds no list" in fault(*words)
    path.write_text("- {teacher: relu, student: nope}")
    assert "nope" in fault(*words)


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("part", ["train", "valid"])
def test_an_image_found_broken_on_the_way_is_one_line(image_folder, capsys, workers, part):
    broken = image_folder / part / "two" / ("2.png" if part == "train" else "7.png")
    broken.write_bytes(b"")
    assert main(["train", str(image_folder), *FAST, "--train-images", "0", "-j", workers]) == 2
    assert not multiprocessing.active_children()
    said = capsys.readouterr()
    assert re.fullmatch(r"mgd: cannot read image '.*two/[27]\.png' [^\n]*\n", said.err)


def test_a_run_that_breaks_down_is_one_line_and_exit_code_1(monkeypatch, capsys):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["train", "digits", *FAST]) == 1
    assert re.fullmatch(r"mgd: cannot write '.*No space left [^\n]*\n", capsys.readouterr().err)


def test_a_mistake_of_the_program_keeps_its_traceback(monkeypatch):
    def fail(words):
        raise KeyError("ours")

    monkeypatch.setitem(COMMANDS, "train", fail)
    with pytest.raises(KeyError):
        main(["train"])


RUN = ["distill", "digits", *FAST, *TEACHER, "--experiment", "run", "--mgd-with-kd", "1"]
RUN += ["--lr", "0.05", "--lr-drop-epochs", "1", "2", "--wd", "0"]


@pytest.fixture
def run(here):
    """A distilled run, through the command line."""
    assert main(RUN) == 0
    return here / "runs" / "run"


def options_of(folder):
    return yaml.safe_load((folder / "args.yaml").read_text())


@pytest.mark.needs(
    "an older one leaves an empty line where no terminal shows progress", rich="14.3"
)
def test_a_run_prints_its_outcome(capsys):
    assert main(RUN) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data     digits: 20 images to train, 60 to validate, 60 to test"
    first = next(place for place, line in enumerate(lines) if line.startswith("epoch "))
    shares = r"shares of the loss: labels \d+ %, logits \d+ %, features \d+ %"
    wait = lines.index("measuring the teacher ...")
    assert re.fullmatch(r"teacher: Acc@1 \d+\.\d on 60 images of valid", lines[wait + 1])
    assert lines[wait + 2] == "matching channels ..."
    assert re.fullmatch(shares, lines[wait + 3])
    assert wait + 4 <= first <= wait + 6  # where a part is nearly all of the loss, it says so
    accuracies = r"Acc@1 \d+\.\d Acc@5 \d+\.\d"  # one decimal: of 60 images
    epoch = rf"epoch 1/1  lr 0\.05  {accuracies}  teacher \d+\.\d  \d+ images/s"
    assert re.match(epoch, lines[first])
    losses = "".join(lines[first + 1 : -4])  # folded where the figures are long
    assert re.match(r"  loss \S+ \(ce \S+ +kd \S+ +mgd_1 \S+ +mgd_2 \S+ +mgd_3 \S+\)", losses)
    assert re.fullmatch(rf"best epoch 1, chosen on valid: {accuracies}", lines[-4])
    assert re.match(rf"student on test: {accuracies} loss .* on 60 images$", lines[-3])
    assert re.match(rf"teacher on test: {accuracies} loss .* on 60 images$", lines[-2])
    assert lines[-1] == "run folder: runs/run"
    assert max(map(len, lines)) <= 80


def computed(folder):
    """Returns the rows of the summary as text, digit by digit, without the times."""
    with (folder / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["loss"]) > 0
    times = ("images_per_s", "data_wait", "seconds")
    return [{name: cell for name, cell in row.items() if name not in times} for row in rows]


def test_a_run_made_with_resume_auto_is_reproduced_from_its_beginning(here):
    assert main([*RUN, "--resume", "auto"]) == 0
    run, again = here / "runs" / "run", here / "runs" / "again"
    words = ["distill", "-c", str(run / "args.yaml"), "--experiment", "again"]
    again.mkdir()
    (again / "last.ckpt").write_bytes((run / "last.ckpt").read_bytes())  # what auto would take
    assert main(words) == 0
    assert computed(again) == computed(run)
    assert "resume" not in options_of(run)


def test_a_run_in_the_way_of_its_own_options_is_told_what_to_do(run, fault, capsys):
    capsys.readouterr()
    said = fault("distill", "-c", run / "args.yaml")
    assert "run 'runs/run' holds a run" in said.replace("folder ", "")
    assert "go on with --resume auto, or name another --experiment" in said
    for advice in (["--resume", "auto"], ["--experiment", "other"]):
        assert main(["distill", "-c", str(run / "args.yaml"), *advice]) == 0


def test_a_runs_args_reproduce_it_and_the_command_line_wins(run, here):
    words = ["distill", "-c", str(run / "args.yaml"), "--experiment", "again"]
    assert main(words) == 0
    again = here / "runs" / "again"
    assert options_of(again) == {**options_of(run), "experiment": "again"}
    assert computed(again) == computed(run)
    one, other = (load_file(folder / "student.safetensors") for folder in (run, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert main([*words[:-1], "other", "--lr", "0.2", "--lr-drop-epochs", "7"]) == 0
    changed = {"experiment": "other", "learning-rate": 0.2, "lr-drop-epochs": [7]}
    assert options_of(here / "runs" / "other") == {**options_of(run), **changed}


def test_evaluate_prints_a_line_each_and_writes_every_class(run, here, capsys):
    capsys.readouterr()
    student = str(run / "student.safetensors")
    words = ["evaluate", "digits", *FAST, "--student-resume", student]
    assert main([*words, *TEACHER, "--experiment", "scores"]) == 0
    *lines, teacher_line, student_line, place = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith(" ...")] == [
        "measuring the teacher ...",
        "measuring the student ...",
    ]
    assert teacher_line.startswith("teacher: Acc@1 ")
    line = r"student: Acc@1 (\S+) Acc@5 \S+ loss \S+ on 60 images, \d+ images/s"
    found = re.fullmatch(line, student_line)
    assert max(len(teacher_line), len(student_line)) <= 80
    assert place == "kept, with the confusions of each class, in runs/scores"
    with (here / "runs" / "scores" / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["class", "images", "teacher_top1", "student_top1"]
    assert [row["class"] for row in rows] == list("0123456789")
    right = sum(int(row["images"]) * float(row["student_top1"]) / 100 for row in rows)
    assert found[1] == f"{100 * round(right) / 60:.1f}"
    (record,) = read_epochs(run)
    assert found[1] == f"{record.valid_top1:.1f}"


def test_evaluate_of_the_student_alone(run, capsys):
    capsys.readouterr()
    assert main(["evaluate", "digits", *FAST, "--student-resume", str(run / "best.ckpt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not any("teacher" in line for line in lines)
    assert [line.split(":")[0] for line in lines[-2:]] == [
        "student",
        "kept, with the confusions of each class, in runs/evaluate-run",
    ]


def test_evaluate_says_that_the_images_were_held_out(run, capsys):
    capsys.readouterr()
    words = ["evaluate", "-c", str(run / "args.yaml"), "--experiment", "scores"]
    words += ["--student-resume", str(run / "best.ckpt"), "--train-images", "0"]
    assert main([*words, "--holdout", "0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4] == "on training images, held out by --holdout 0.1:"
    assert lines[-3].startswith("teacher: Acc@1")


def stock(run):
    network = mgd.create_model("cifar_resnet8_x0_25", 10)
    network.load_state_dict(load_file(run / "student.safetensors"))
    return network.eval()


@pytest.mark.needs("the compiler of 2.6 cannot trace the shape checks of the tests", torch="2.7")
@pytest.mark.parametrize("batch", [1, 5])
def test_export_keeps_the_logits(run, batch):
    images = torch.randn(batch, 3, 8, 8)
    expected = stock(run)(images)
    assert main(["export", str(run)]) == 0
    program = torch.export.load(run / "student.pt2").module()
    torch.testing.assert_close(program(images), expected)
    assert main(["export", str(run), "--format", "pth", "-o", "mine.pth"]) == 0
    network = mgd.create_model("cifar_resnet8_x0_25", 10)
    network.load_state_dict(torch.load("mine.pth", weights_only=True))
    assert torch.equal(network.eval()(images), expected)


def test_what_cannot_be_exported_is_one_line(run, fault, capsys):
    capsys.readouterr()
    for kind in ("pth", "pt2"):
        line = fault("export", run, "--format", kind, "-o", "nowhere/student.pth")
        assert "nowhere" in line
    assert "does not fit ResNet" in fault("export", run, "--arch", "resnet18")
    (run / "student.safetensors").unlink()
    assert "do not exist" in fault("export", run)


def test_report_of_one_run_and_of_two(run, here, capsys):
    capsys.readouterr()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert "Matching of run" in (run / "report.html").read_text()
    assert main(["report", str(run), str(run)]) == 0
    assert (here / "runs" / "report.html").stat().st_size > 10_000


def test_a_report_needs_a_folder_to_be_in(run, fault, capsys):
    capsys.readouterr()
    assert "the folder 'nowhere' does not exist" in fault("report", run, "-o", "nowhere/x.html")
    assert "is a folder; name a file" in fault("report", run, "-o", run)


def test_a_page_of_an_earlier_time_is_left_out_and_so_is_a_run_without_an_epoch(
    run, fault, here, capsys, caplog
):
    shutil.copytree(run, here / "runs" / "other")
    begun = here / "runs" / "begun"
    begun.mkdir()
    (begun / "args.yaml").write_bytes((run / "args.yaml").read_bytes())
    for _ in range(2):
        places = [str(path) for path in sorted((here / "runs").iterdir())]
        assert main(["report", *places]) == 0
    assert str(here / "runs" / "report.html") in places
    assert f"'{begun}' has no finished epoch; left out" in caplog.text
    capsys.readouterr()
    for alone in (begun, here / "runs" / "report.html"):
        assert "no run with a finished epoch; give run folders" in fault("report", alone)


PAIR = ["--teacher", "cifar_resnet14", "--student", "cifar_resnet8_x0_5"]
PAIR += ["--size", "16", "--teacher-size", "16"]


def test_points_are_shown_as_a_table(capsys):
    level = logging.getLogger("mgd").getEffectiveLevel()
    assert main(["points", *PAIR]) == 0
    text = capsys.readouterr().out
    for heading in ("teacher", "student", "channels", "margin from", "step time"):
        assert heading in text
    rows = [line for line in text.splitlines() if "layer" in line]
    assert len(rows) == 3
    assert "layer3.1.relu" in rows[2]
    assert "64 -> 32" in rows[2]
    assert "4x4" in rows[2]
    assert logging.getLogger("mgd").getEffectiveLevel() == level


@pytest.mark.parametrize("points", ["known", "auto"])
def test_points_as_yaml_are_taken_back(capsys, tmp_path, here, points):
    assert main(["points", *PAIR, "--points", points, "--format", "yaml"]) == 0
    text = capsys.readouterr().out
    entries = yaml.safe_load(text)
    assert all(set(entry) == {"teacher", "student", "norm"} for entry in entries)
    (tmp_path / "points.yaml").write_text(yaml.safe_dump(entries[1:]))
    words = ["distill", "digits", *FAST, "--arch", "cifar_resnet8_x0_5", "--size", "16"]
    words += ["--teacher", "cifar_resnet14", "--use-pretrained", "0", "--experiment", "run"]
    assert main([*words, "--points", str(tmp_path / "points.yaml")]) == 0
    header = (here / "runs" / "run" / "summary.csv").read_text().splitlines()[0]
    assert header.count("loss_mgd_") == len(entries) - 1 >= 1


@pytest.fixture
def sides(monkeypatch):
    """Returns the sides of the images that the networks of `mgd points` are shown."""
    seen = {}
    points = importlib.import_module("mgd.cli.points")  # `mgd.cli.points` is the command
    build = points.build_distiller

    def watched(config, teacher, student, example, **views):
        def note(module, given):
            seen.setdefault("teacher" if module is teacher else "student", given[0].shape[-1])

        for network in (teacher, student):
            network.register_forward_pre_hook(note)
        return build(config, teacher, student, example, **views)

    monkeypatch.setattr(points, "build_distiller", watched)
    return seen


def test_points_shows_each_network_its_own_size(capsys, sides):
    teacher = ["--teacher", "timm:vit_tiny_patch16_224"]
    assert main(["points", *teacher, "--student", "cifar_resnet8"]) == 0
    assert sides == {"teacher": 224, "student": 32}
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["timm:vit_tiny_patch16_224 at 224 px", "cifar_resnet8 at 32 px"]
    assert sum("layer" in line for line in lines) == 3


def test_points_takes_the_size_of_each(capsys, sides):
    words = ["points", *PAIR[:4], "--size", "16", "--teacher-size", "24", "--format", "yaml"]
    assert main(words) == 0
    assert sides == {"teacher": 24, "student": 16}
    assert isinstance(yaml.safe_load(capsys.readouterr().out), list)  # and nothing before it


def test_resume_and_refusal_from_the_command_line(run, fault, here, capsys, caplog):
    capsys.readouterr()
    words = ["-c", str(run / "args.yaml"), "--experiment", "run"]
    assert "holds a run already" in fault("distill", "digits", *words)
    with caplog.at_level(logging.WARNING):
        assert main(["distill", "digits", *words, "--epochs", "2", "--resume", "auto"]) == 0
    assert "going on with 'runs/run' at epoch 1, step 0" in capsys.readouterr().out
    assert "the run goes on with other options: --epochs 1 -> 2; to keep its own" in caplog.text
    assert options_of(run)["epochs"] == 2
    assert len((run / "summary.csv").read_text().splitlines()) == 3
