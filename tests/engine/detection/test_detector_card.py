"""The model card of a detector: true, complete, and whole whatever the names are."""

import contextlib
import io
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from torchvision.transforms.v2.functional import to_pil_image

from boxed import CLASSES, shapes, write_voc
from engine.detection.test_detector_export import detector
from engine.test_card import about, code_in, outline, tokens
from mgd.cli.main import main
from mgd.cli.parser import RunParser
from mgd.engine.detection.card import DetectorFacts, detector_card_text, with_mgd, with_onnx
from mgd.engine.detection.work import train_detector
from mgd.engine.loop.checkpoint import save_weights
from mgd.engine.options.config import RunConfig
from mgd.runfolder import RunResult

RESULT = RunResult(
    best_epoch=2, valid_map=41.25, valid_map_50=80.5, trained_parameters=10, seconds=1.0
)
FACTS = DetectorFacts(
    folder=Path("runs/first"),
    arch="ssdlite_x0_125/timm:test_resnet",
    classes=CLASSES,
    size=64,
    data="shapes",
    train_images=6,
    train_boxes=10,
    valid_images=4,
    test_images=0,
    start="random weights",
    base_model="",
    method="none",
    reducer="amp",
    logit_loss="",
    teacher="",
    teacher_weights="",
    keeps_last=False,
    result=RESULT,
    per_class={"student": (50.0, float("nan"))},
    options={"epochs": 3},
    changes=(),
)
TAUGHT = {
    "method": "mgd",
    "teacher": "retinanet/resnet34",
    "teacher_weights": "big/student.safetensors",
    "per_class": {"student": (50.0, float("nan")), "teacher": (60.0, 70.0)},
}


def card(**changes):
    return detector_card_text(replace(FACTS, **changes))


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """A run with a teacher, and what its card says."""
    folder = tmp_path_factory.mktemp("card")
    alone = RunConfig().replace(
        data=str(write_voc(folder / "shapes")), arch="ssdlite_x0_125/timm:test_resnet", size=64,
        batch_size=6, epochs=1, workers=0, devices=1, learning_rate=0.01, tensorboard=0,
        output=str(folder / "runs"), experiment="big",
    )  # fmt: skip
    teacher = train_detector(alone).folder
    config = alone.replace(
        distiller="mgd", teacher_resume=str(teacher), size="auto", experiment="small"
    )
    run = train_detector(config).folder
    return run, (run / "MODEL_CARD.md").read_text()


def test_the_figures_are_those_of_the_run(distilled):
    folder, text = distilled
    result = yaml.safe_load((folder / "result.json").read_text())
    for row in (
        f"| student | validation | 4 | {result['valid_map']:.1f} % |",
        f"| student | test | 3 | {result['test_map']:.1f} % |",
        f"| teacher | test | 3 | {result['teacher_map']:.1f} % |",
        "| class | student | teacher |",
    ):
        assert row in text
    assert "mAP of each class, on the test images:" in text
    assert re.search(r"\| `disc` \| [\d.]+ % \| [\d.]+ % \|", text)
    assert "`shapes`: trained on 6 images with 10 boxes, 4 images to validate, 3 to test." in text
    assert "2 classes, in the order of the labels, from 1 on: `disc`, `square`." in text
    assert "(`big/student.safetensors`)" in text
    assert "learned from the features of its teacher by Matching Guided Distillation" in text
    assert "The licences of the teacher's weights" in text


def test_the_command_makes_the_same_run(distilled):
    folder, text = distilled
    (lines,) = [each for each in code_in(text, "bash") if "-again" in each]
    program, command, *words = shlex.split(lines)
    assert (program, command) == ("mgd", "distill-detector")
    told = yaml.safe_load((folder / "args.yaml").read_text())
    assert RunParser(command).read(words).flat() == {**told, "experiment": "small-again"}


def test_a_file_that_leaves_the_run_has_the_card_and_its_proof(distilled, tmp_path, capsys):
    folder, text = distilled
    assert main(["export", str(folder), "-o", str(tmp_path / "small.pth")]) == 0
    said = (tmp_path / "small.pth.md").read_text()
    assert said.startswith(text)
    assert "`small.pth` is an export of these weights:" in said
    assert "proven on 4 images of" in said


def test_both_ways_find_the_same_boxes(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    given = detector("ssdlite")
    monkeypatch.chdir(tmp_path)
    save_weights(given.network, tmp_path / "student.safetensors", given.metadata)
    to_pil_image(shapes(0)[0]).save("photo.jpg")
    (command,) = [each for each in code_in(card(), "bash") if each.startswith("mgd export")]
    assert main(shlex.split(command)[1:]) == 0
    printed = []
    for lines in code_in(card(), "python"):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(lines, {})
        printed.append(said.getvalue().splitlines())
    assert len(printed[0]) == len(printed[1]) > 10
    for one, other in zip(*printed, strict=True):
        assert one.split()[0] == other.split()[0]
        assert one.split()[0] in CLASSES
        assert float(one.split()[1]) == pytest.approx(float(other.split()[1]), abs=1e-4)
    assert "mgd" not in with_onnx(FACTS)
    assert "mgd" in with_mgd(FACTS)


def test_hugging_face_reads_what_it_expects():
    assert about(card(**TAUGHT))[0] == {
        "library_name": "matching-guided-distillation",
        "pipeline_tag": "object-detection",
        "tags": [
            "object-detection",
            "pytorch",
            "knowledge-distillation",
            "matching-guided-distillation",
        ],
        "metrics": ["mean_average_precision"],
    }


def test_a_run_without_test_images_and_teacher_says_so():
    text = card()
    assert "was trained on its own, without a teacher." in text
    assert "| student | validation | 4 | 41.2 % | 80.5 % |" in text
    assert "mAP of each class, on the validation images:" in text
    assert "| `disc` | 50.0 % |\n| `square` | on no image |" in text
    assert "| test |" not in text
    assert "a little too good" in text
    assert "the detector resizes both sides to 64 px" in text
    assert "resizes the longer side to 64 px" in card(arch="retinanet/resnet18")
    assert "mgd compare" not in text  # which is for classifiers
    assert "mgd train-detector -c runs/first/args.yaml" in text
    assert "The mAP of the teacher was not measured." in card(**TAUGHT)


@pytest.mark.parametrize("name", ["a `b` c", "| a | b |", "<b>", "new\n\n# line", 'it\'s "x"'])
def test_a_name_stays_a_name(name):
    text = card(classes=(name, "square"), data=name, folder=Path("runs", name), **TAUGHT)
    assert outline(text) == outline(card(**TAUGHT))
    assert "html_block" not in [each.type for each in tokens(text)]
    for lines in code_in(text, "python"):
        compile(lines, "card", "exec")
