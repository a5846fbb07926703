"""Exported detectors: an ONNX program finds the boxes that PyTorch finds, on images of any size."""

import json

import pytest
import torch

import mgd
from boxed import CLASSES, shapes, write_voc
from mgd.cli.main import main
from mgd.engine.detection import proof
from mgd.engine.detection.detectors import Detector
from mgd.engine.detection.exporting import read_answer, write_detector
from mgd.engine.detection.proof import same_boxes
from mgd.engine.loop.checkpoint import save_weights
from mgd.errors import InputError
from mgd.models import create_detector
from mgd.models.detector_names import HEADS

# (34, 115) and (742, 849): torchvision's own trace resizes them to another pixel than PyTorch.
SIZES = [(48, 64), (64, 48), (34, 115), (115, 34), (742, 849)]


def detector(head):
    """Returns a detector with random weights that finds boxes of unlike scores."""
    name = f"{head}_x0_125/timm:test_resnet"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create_detector(name, 2, 64).eval()
        parts = [network.rpn.head, network.roi_heads] if head == "fasterrcnn" else [network.head]
        for part in parts:
            for parameter in part.parameters():
                torch.nn.init.normal_(parameter, 0, 0.1)
    return Detector(name, network, 64, "random weights", CLASSES)


def image_of(height, width):
    dice = torch.Generator().manual_seed(height)
    return torch.nn.functional.interpolate(
        shapes(0)[0][None] / 255 + torch.rand(1, 3, 48, 64, generator=dice) / 5, (height, width)
    )[0].clamp(0, 1)


@pytest.mark.parametrize("head", HEADS)
@torch.inference_mode()
def test_onnx_finds_the_boxes_of_pytorch_at_any_size(head, tmp_path):
    pytest.importorskip("onnxruntime")
    given = detector(head)
    (file,) = write_detector(given, tmp_path / "net.onnx", "onnx")
    answer = read_answer(file)
    for size in SIZES:
        expected, found = given.network([image_of(*size)])[0], answer(image_of(*size))
        number = max(len(expected["labels"]), len(found["labels"]))
        pairs = same_boxes(expected, found, max(size), 1e-4)
        assert number > 10
        assert len(pairs) == number


def test_the_file_says_what_it_takes_and_returns(tmp_path):
    onnx = pytest.importorskip("onnx")
    given = detector("ssdlite")
    write_detector(given, tmp_path / "net.onnx", "onnx")
    model = onnx.load(tmp_path / "net.onnx")
    (entry,) = model.metadata_props
    about = json.loads(entry.value)
    assert (entry.key, about["arch"], about["classes"]) == ("mgd", given.name, list(CLASSES))
    (image,) = model.graph.input
    assert "red, green and blue from 0 to 1, of any size" in image.doc_string
    dims = [each.dim_param or each.dim_value for each in image.type.tensor_type.shape.dim]
    assert dims == [3, "height", "width"]
    texts = {each.name: each.doc_string for each in model.graph.output}
    assert list(texts) == ["boxes", "labels", "scores"]
    assert "label 1 is the first of the classes" in texts["labels"]


def test_a_file_of_boxes_is_no_classifier(tmp_path):
    pytest.importorskip("onnxruntime")
    write_detector(detector("ssdlite"), tmp_path / "net.onnx", "onnx")
    with pytest.raises(InputError, match=r"net.onnx' is an exported detector, .* returns boxes"):
        mgd.load_network(tmp_path / "net.onnx")


def found(*boxes):
    """Each box: label, score, corners."""
    return {
        "boxes": torch.tensor([box[2:] for box in boxes], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([box[0] for box in boxes], dtype=torch.long),
        "scores": torch.tensor([box[1] for box in boxes], dtype=torch.float32),
    }


BOXES = [(1, 0.875, 0, 0, 8, 8), (1, 0.75, 0, 0, 8, 9), (2, 0.5, 4, 4, 16, 16)]


def test_the_order_of_boxes_does_not_matter():
    assert same_boxes(found(*BOXES), found(*BOXES[::-1]), 16, 0) == [0, 0, 0]


@pytest.mark.parametrize(
    ("other", "most", "number"),
    [
        ((2, 0.875, 0, 0, 8, 8), 1.0, 0),
        ((1, 0.5, 0, 0, 8, 8), 0.375, 1),
        ((1, 0.5, 0, 0, 8, 8), 0.374, 0),
        ((1, 0.875, 0, 0, 8, 12), 0.25, 1),
        ((1, 0.875, 0, 0, 8, 12), 0.249, 0),
        ((1, float("nan"), 0, 0, 8, 8), 1.0, 0),
        ((1, 0.875, 0, 0, 8, float("nan")), 1.0, 0),
    ],
)
def test_boxes_of_another_class_place_or_score_are_no_pair(other, most, number):
    assert len(same_boxes(found(BOXES[0]), found(other), 16, most)) == number


def test_a_box_has_one_partner_at_most():
    assert same_boxes(found(*BOXES), found(BOXES[0], BOXES[0]), 16, 0) == [0]
    assert same_boxes(found(), found(*BOXES), 16, 0) == []


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a detector, and images to prove a file on."""
    folder = tmp_path_factory.mktemp("weights")
    given = detector("ssdlite")
    save_weights(given.network, folder / "net.safetensors", given.metadata)
    return folder / "net.safetensors", write_voc(folder / "voc")


def call(capsys, *words):
    """Returns what a command prints, or its error."""
    code = main(["export", *map(str, words)])
    said = capsys.readouterr()
    return said.err if code else said.out


@pytest.mark.parametrize("kind", ["onnx", "pth"])
def test_a_file_is_proven_on_validation_images(weights, tmp_path, monkeypatch, capsys, kind):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    source, data = weights
    lines = call(capsys, source, "-o", f"new.{kind}", "--data", data).splitlines()
    assert lines[0].startswith("proven on 4 images of ")
    assert lines[0].endswith(", the first also turned and at half its size")
    runtime = {"onnx": "ONNX Runtime", "pth": "PyTorch"}[kind]
    assert [line.split("  ")[1] for line in lines[2:4]] == [
        "net.safetensors, PyTorch",
        f"new.{kind}, {runtime}",
    ]
    same, boxes = lines[4].removeprefix("same boxes as in PyTorch: ").split(" of ")
    assert int(same) == int(boxes) > 100
    assert lines[6] == f"new.{kind}"


def test_a_file_with_other_boxes_is_not_kept(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    read = proof.read_answer

    def shifted(path):
        answer = read(path)
        return lambda image: {**answer(image), "boxes": answer(image)["boxes"] + 1}

    monkeypatch.setattr(proof, "read_answer", shifted)
    source, data = weights
    words = source, "-o", "new.pth", "--data", data
    said = call(capsys, *words)
    assert "'new.pth' is not kept: 0 of " in said
    assert "within --tolerance 0.0001), and 99.9% must be" in said
    assert list(tmp_path.iterdir()) == []
    assert "new.pth" in call(capsys, *words, "--tolerance", "0.05")


def test_a_detector_that_finds_nothing_proves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = "retinanet_x0_125/timm:test_resnet"  # with a prior of 1 % for every box
    given = Detector(name, create_detector(name, 2, 64).eval(), 64, "random weights", CLASSES)
    save_weights(given.network, tmp_path / "net.safetensors", given.metadata)
    said = call(capsys, "net.safetensors", "-o", "new.pth", "--data", write_voc(tmp_path / "voc"))
    assert "no box was found, in PyTorch and by the file, so that no box was compared" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "pt2"], "cannot be written as pt2: the number of its boxes depends on"),
        (["--int8"], "cannot be written in int8, which is for classifiers alone"),
        (["--arch", "resnet18"], "'resnet18' is no detector; give HEAD/BACKBONE"),
        (["--data", "gone"], "no images to prove the file on: data folder 'gone' does not exist"),
    ],
)
def test_what_cannot_be_written_is_told(weights, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in call(capsys, weights[0], *words)


def test_what_torch_cannot_write_is_one_line(weights, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)

    def export(*arguments, **options):
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(torch.onnx, "export", export)
    said = call(capsys, weights[0], "-o", "new.onnx")
    assert "cannot write ssdlite_x0_125/timm:test_resnet as onnx (no such operator)" in said
    assert "give --format safetensors or pth" in said
