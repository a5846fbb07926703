"""Detectors and images with boxes, given to the commands that are for others as well."""

import csv
import json
import os
import signal

import pytest
import torch

from boxed import CLASSES, write_coco, write_voc
from engine.detection.test_detector_runs import ends
from engine.loop.test_trainer import rows_of
from mgd.cli.main import main
from mgd.data.decode import decode
from mgd.engine.detection import work
from mgd.engine.detection.detectors import load_detector
from mgd.engine.detection.finding import find_boxes
from mgd.engine.detection.work import train_detector
from mgd.engine.loop.runlog import Reporter
from mgd.engine.options.config import RunConfig

PARTS = {"train": 3, "val": 1}
BACKBONE = "timm:test_resnet"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with images in both layouts, and runs of detectors.

    A Faster R-CNN of random weights finds boxes, of which it is not sure.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    write_voc(folder / "voc", PARTS)
    write_coco(folder / "coco", PARTS)
    config = RunConfig().replace(
        data=str(folder / "voc"), arch=f"fasterrcnn_x0_125/{BACKBONE}", size=64, batch_size=3,
        epochs=1, workers=0, tensorboard=0, devices=1, output=str(folder / "runs"),
    )  # fmt: skip
    train_detector(config.replace(experiment="faster"))
    train_detector(config.replace(experiment="retina", arch=f"retinanet_x0_125/{BACKBONE}"))
    return folder


@pytest.fixture
def told(place, monkeypatch, capsys):
    """Runs a command in the folder, and returns its exit code, output and errors."""
    monkeypatch.chdir(place)

    def run(*words):
        code = main([str(word) for word in words])
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


IMAGES = ("voc/JPEGImages/shape000.jpg", "voc/JPEGImages/shape001.jpg")


def test_json_has_what_the_detector_answers(told, place):
    code, out, _ = told("predict", *IMAGES, "-m", "runs/faster", "--format", "json",
                        "--least-score", 0)  # fmt: skip
    assert code == 0
    found = json.loads(out)
    detector = load_detector(place / "runs" / "faster" / "student.safetensors")
    for name, entry in zip(IMAGES, found, strict=True):
        assert entry["image"] == name
        with torch.no_grad():
            (expected,) = detector.network.eval()([decode(name).float() / 255])
        order = expected["scores"].argsort(descending=True, stable=True)
        boxes = entry["boxes"]
        assert len(boxes) > 5
        corners = [[box[edge] for edge in ("left", "top", "right", "bottom")] for box in boxes]
        torch.testing.assert_close(torch.tensor(corners), expected["boxes"][order])
        scores = torch.tensor([box["score"] for box in boxes])
        torch.testing.assert_close(scores, expected["scores"][order])
        labels = expected["labels"][order].tolist()
        assert [box["class"] for box in boxes] == [CLASSES[label - 1] for label in labels]


def test_the_batch_changes_nothing(place, monkeypatch):
    """Images of a batch are padded to the largest, and those of the others may be smaller."""
    monkeypatch.chdir(place)
    files = [*IMAGES, "voc/JPEGImages/shape002.jpg"]
    one, other = (
        list(find_boxes(files, "runs/faster", least_score=0, batch_size=size)) for size in (1, 3)
    )
    for mine, yours in zip(one, other, strict=True):
        assert [box.name for box in mine.boxes] == [box.name for box in yours.boxes]
        corners = [[box.corners for box in each.boxes] for each in (mine, yours)]
        torch.testing.assert_close(*map(torch.tensor, corners), rtol=1e-4, atol=1e-2)


def test_csv_has_a_row_a_box(told):
    given = (*IMAGES, "-m", "runs/faster", "--least-score", 0, "--top-k", 2)
    everything = json.loads(told("predict", *given, "--format", "json")[1])
    _, out, _ = told("predict", *given, "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    boxes = [(entry["image"], box) for entry in everything for box in entry["boxes"]]
    assert [row["image"] for row in rows] == [image for image, _ in boxes] == sorted(2 * IMAGES)
    for row, (_, box) in zip(rows, boxes, strict=True):
        assert row["class"] == box["class"]
        for name in ("score", "left", "top", "right", "bottom"):
            assert float(row[name]) == pytest.approx(box[name], abs=0.006)


def test_the_table_has_a_line_an_image(told):
    _, out, _ = told("predict", *IMAGES, "-m", "runs/faster", "--least-score", 0, "-k", 1)
    first, second = out.splitlines()
    assert first.startswith(f"{IMAGES[0]}  ")
    assert " % (" in second


def test_an_image_without_a_box_is_there(told):
    """The RetinaNet is sure of nothing yet."""
    given = (IMAGES[0], "-m", "runs/retina")
    assert told("predict", *given)[1] == f"{IMAGES[0]}  no box\n"
    assert json.loads(told("predict", *given, "--format", "json")[1]) == [
        {"image": IMAGES[0], "boxes": []}
    ]
    header = "image,class,score,left,top,right,bottom\n"
    assert told("predict", *given, "--format", "csv")[1] == header


def test_least_score_leaves_boxes_out(place, monkeypatch):
    monkeypatch.chdir(place)
    (every,) = find_boxes(IMAGES[:1], "runs/faster", least_score=0)
    least = every.boxes[2].score
    (some,) = find_boxes(IMAGES[:1], "runs/faster", least_score=least)
    assert some.boxes == tuple(box for box in every.boxes if box.score >= least)


GIVE_BOXES = "has images with boxes, and no folder of images per class; train a detector on them"
IS_DETECTOR = "is a detector, and names no class of a whole image"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("predict", *IMAGES, "-m", "runs/retina", "--least-score", 2), "must be from 0 to 1"),
        (("predict", *IMAGES, "-m", "runs/retina", "--arch", "resnet18"), "--arch is not needed"),
        (("evaluate", "voc"), "'voc' has images with boxes, and nothing says which detector"),
        (("evaluate", "coco"), "'coco' has images with boxes, and nothing says which detector"),
        (("train", "voc"), f"'voc' {GIVE_BOXES} with mgd train-detector"),
        (("distill", "coco"), f"'coco' {GIVE_BOXES} with mgd train-detector"),
        (("distill", "digits", "--teacher-resume", "runs/retina"), IS_DETECTOR),
        (("train", "digits", "--student-resume", "runs/retina"), IS_DETECTOR),
        (("compare", "runs/retina", "runs/faster"), IS_DETECTOR),
        (("points", "--student", "retinanet/resnet18"), IS_DETECTOR),
        (("train-detector", "digits"), "'digits' does not exist; give a folder with annotations"),
        (("train-detector", "runs/retina"), "'runs/retina' is a run folder, and no folder of im"),
        (("distill-detector", "voc"), "`teacher_resume` is missing"),
    ],
    ids=lambda given: " ".join(map(str, given)) if isinstance(given, tuple) else "",
)
def test_what_a_command_cannot_do_is_one_line(told, words, said):
    code, _, error = told(*words)
    assert code == 2
    (line,) = error.splitlines()
    assert said.replace("`teacher_resume`", "--teacher-resume") in line


def test_an_evaluation_of_detectors_is_told_from_a_run(told, caplog):
    """`runs/*` names it as well."""
    assert told("evaluate", "runs/retina", "--workers", 0)[0] == 0
    code, out, _ = told("report", "runs/retina", "runs/evaluate-retina", "-o", "page.html")
    assert (code, out) == (0, "page.html\n")
    assert caplog.messages == [
        "'runs/evaluate-retina' holds an evaluation of detectors, which no page shows; left out, "
        "and its figures are in its detection.json"
    ]
    code, _, error = told("report", "runs/evaluate-retina")
    assert code == 2
    assert error.endswith("no run with a finished epoch; give run folders\n")
    for command in ("evaluate", "compare"):
        code, _, error = told(command, "runs/evaluate-retina")
        assert (code, "holds what an evaluation found, and no network" in error) == (2, True)


class Terminated(Reporter):
    """Ends this process politely in a step, as a cluster does."""

    def step(self, done, values):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_terminated_goes_on_as_if_it_were_not(told, place, monkeypatch):
    words = ("train-detector", "voc", "--arch", f"fasterrcnn_x0_125/{BACKBONE}", "--size", 64)
    words += ("-b", 2, "--epochs", 2, "--workers", 0, "--tensorboard", 0, "--print-freq", 1)
    assert told(*words, "--experiment", "whole")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(work, "Reporter", Terminated)
        patch.setattr("mgd.cli.detection.RichReporter", Terminated)
        assert told(*words, "--experiment", "parted")[0] == 143
    assert len(rows_of(place / "runs" / "parted")) == 0
    assert told(*words, "--experiment", "parted", "--resume", "auto")[0] == 0
    whole, parted = place / "runs" / "whole", place / "runs" / "parted"
    assert ends(parted) == ends(whole)
    assert rows_of(parted) == rows_of(whole)
