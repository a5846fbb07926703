"""Few labels or none on the command line: the whole way, and one line for what cannot be used."""

import json
import re
from pathlib import Path

import pytest

from mgd.cli import main

NET = ["--arch", "cifar_resnet8_x0_25", "--size", "8", "-j", "0", "-b", "8"]
FAST = [*NET, "--epochs", "1", "--tensorboard", "0"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def told(capsys):
    def run(*words):
        assert main(list(map(str, words))) == 0
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def fault(capsys):
    def run(*words):
        assert main(list(map(str, words))) == 2
        said = capsys.readouterr()
        assert re.fullmatch(r"mgd: [^\n]+\n", said.err)
        return said.err

    return run


@pytest.fixture
def photos(image_folder):
    return image_folder.relative_to(Path.cwd())


@pytest.fixture
def teacher(photos, told):
    told("train", photos, *FAST, "--experiment", "teacher")
    return ["--teacher-resume", "runs/teacher"]


def test_the_whole_way_without_a_label(photos, teacher, told, fault):
    lines = told("distill", photos / "train", *FAST, *teacher, "--label-free", "--experiment", "a")
    text = "\n".join(lines)
    assert "agreement with the teacher" in text
    assert "Acc@1" not in text
    assert "chosen on held-out images: agreement with the teacher" in text
    assert json.loads(Path("runs/a/result.json").read_text())["valid_is_agreement"] == 1
    assert "mgd evaluate DATA --model RUN" in fault("evaluate", "runs/a")
    (score,) = [line for line in told("evaluate", photos, "--model", "runs/a") if "Acc@1" in line]
    assert "on 12 images" in score
    told("report", "runs/a")
    assert "(agreement with the teacher)" in Path("runs/a/report.html").read_text()


def test_a_labelled_valid_shows_the_accuracy_as_well(photos, teacher, told):
    lines = told("distill", photos, *FAST, *teacher, "--label-free", "--experiment", "b")
    text = "\n".join(lines)
    assert "test: the images of the folder valid, which chose nothing" in text
    assert re.search(r"student on test: Acc@1 \S+ .* on 12 images", text)
    assert any("student: Acc@1" in line for line in told("evaluate", "runs/b"))


def test_more_images_without_labels(photos, teacher, told):
    words = ["distill", photos, *FAST, *teacher, "--unlabelled", photos / "valid" / "one"]
    lines = told(*words, "--unlabelled-batch", 2, "--mgd-with-kd", 1)
    assert any("18 images to train, 4 without labels to train" in line for line in lines)
    assert sum(line.startswith("shares of the loss: labels ") for line in lines) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--unlabelled gone", "--unlabelled gone is no folder; give one that has images"),
        ("--unlabelled empty", "'empty' is no image and holds none"),
        ("--unlabelled-batch 3", "--unlabelled-batch 3 has no effect without --unlabelled"),
        ("--unlabelled empty --distiller none", "--unlabelled needs a teacher"),
        ("--label-free --distiller none", "--label-free needs a teacher"),
        ("--label-free --mgd-with-kd 0", "--label-free needs the loss on the logits"),
        ("--label-free --train-images 6", "--train-images has no effect with --label-free"),
        ("--label-free --use-pretrained 0", "nothing says which classes the teacher"),
        ("--ce-weight 0", "--ce-weight 0 needs the loss on the logits"),
    ],
)
def test_what_cannot_be_used_is_one_line(photos, fault, words, reason):
    Path("empty").mkdir()
    assert reason in fault("distill", photos, *FAST, "--teacher", "resnet18", *words.split())
    assert not Path("runs").exists()


@pytest.mark.parametrize("words", [["--label-free"], ["--unlabelled", "more"]])
def test_a_student_alone_learns_nothing_from_them(photos, fault, words):
    assert "use mgd distill" in fault("train", photos, *FAST, *words)
