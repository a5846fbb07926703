"""`mgd export`: a file is kept if it answers as the network does in PyTorch, on real images."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import mgd
from mgd.cli import export as command
from mgd.cli import main
from mgd.data import load_digits
from mgd.models.exported import ExportedNetwork

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.needs(
    "the compiler of 2.6 cannot trace the shape checks of the tests", torch="2.7"
)

ARCH = "cifar_resnet8_x0_5"


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """A short run on the digits."""
    runs = tmp_path_factory.mktemp("digits")
    words = ["train", "digits", "--arch", ARCH, "--size", 8, "--epochs", 4, "-b", 32, "-j", 0]
    words += ["--lr-schedule", "cosine", "--tensorboard", 0, "-o", runs, "--experiment", "digits"]
    assert main([str(word) for word in words]) == 0
    return runs / "digits"


@pytest.fixture(scope="module")
def int8(tmp_path_factory, digits_run):
    """The run's student in float32 and in int8."""
    folder = tmp_path_factory.mktemp("int8")
    for words in (["-o", "float32.onnx"], ["-o", "small.onnx", "--int8"]):
        # How near an 8-bit network comes depends on the processor.
        more = ["--least-agreement", 0.8] if "--int8" in words else []
        words = ["export", digits_run, "-o", folder / words[1], *words[2:], *more]
        assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def wrong(monkeypatch):
    """Has exported files give other logits than they do."""

    def change(make):
        forward = ExportedNetwork.forward
        monkeypatch.setattr(ExportedNetwork, "forward", lambda *given: make(forward(*given)))

    return change


def scans(number):
    """Returns real scans as the digits' network sees them, and their classes."""
    split = load_digits().valid
    view = mgd.View.from_network(ARCH).replace(size=8, crop="squash", crop_pct=1.0)
    return torch.stack([view(split.image(n)) for n in range(number)]), split.labels[:number]


def found(lines):
    """Returns what the lines of a proof say: agreeing, images, relative difference, rows."""
    text = "\n".join(lines)
    same = re.search(r"same answer as in PyTorch: (\d+) of (\d+) images", text)
    relative = re.search(r"logits: \S+, or (\S+) of the largest", text)
    rows = re.findall(r"^  (\S+), (.+?)  +([\d.]+|–)  +\S+ \(\S+–\S+\)  +\S+ [KM]?B$", text, re.M)
    return int(same[1]), int(same[2]), float(relative[1]), rows


@pytest.mark.parametrize(
    ("kind", "runtime"),
    [
        ("onnx", "ONNX Runtime"),
        ("pt2", "torch.export"),
        ("pth", "PyTorch"),
        ("safetensors", "PyTorch"),
    ],
)
def test_a_file_is_run_on_200_real_images(digits_run, here, told, kind, runtime):
    lines = told("export", digits_run, "-o", f"net.{kind}")
    assert lines[0] == "proven on 200 images of digits"
    agreeing, images, relative, rows = found(lines)
    assert (agreeing, images) == (200, 200)
    assert relative <= 1e-4
    (source, pytorch, before), (file, where, after) = rows
    assert (source, pytorch) == ("student.safetensors", "PyTorch")
    assert (file, where) == (f"net.{kind}", runtime)
    assert float(before) > 40
    assert before == after


@torch.no_grad()
def test_onnx_and_pt2_agree_with_pytorch_on_200_real_scans(digits_run, here, told):
    """As somebody runs them who knows nothing of this package."""
    import onnxruntime

    images, labels = scans(200)
    network = mgd.create_model(ARCH, 10)
    network.load_state_dict(load_file(digits_run / "student.safetensors"))
    expected = network.eval()(images)
    assert (expected.argmax(1) == torch.tensor(labels)).float().mean() > 0.4
    told("export", digits_run, "-o", "net.onnx", "--no-proof")
    told("export", digits_run, "-o", "net.pt2", "--no-proof")
    session = onnxruntime.InferenceSession("net.onnx")
    (scores,) = session.run(["logits"], {"images": images.numpy()})
    again = torch.export.load("net.pt2").module()(images)
    most = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(torch.from_numpy(scores), expected, atol=most, rtol=0)
    torch.testing.assert_close(again, expected, atol=most, rtol=0)


def test_int8_is_compared_with_pytorch_and_float32(digits_run, here, told):
    lines = told("export", digits_run, "-o", "small.onnx", "--int8", "--least-agreement", 0.8)
    agreeing, images, relative, rows = found(lines)
    assert images == 200
    assert agreeing >= 160
    assert relative > 1e-4  # it is quantised
    assert [row[:2] for row in rows] == [
        ("student.safetensors", "PyTorch"),
        ("float32.onnx", "ONNX Runtime"),
        ("small.onnx", "ONNX Runtime"),
    ]
    assert rows[0][2] == rows[1][2]
    assert sorted(path.name for path in Path().iterdir()) == ["small.onnx", "small.onnx.md"]


def test_int8_has_weights_of_8_bits_and_the_same_metadata(int8):
    import onnx

    graph = onnx.load(int8 / "small.onnx").graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    made_by = {output: node for node in graph.node for output in node.output}
    weights = {each.name: each for each in graph.initializer}
    assert convolutions
    for node in convolutions:
        assert all(made_by[name].op_type == "DequantizeLinear" for name in node.input[:2])
        quantised, scale = (weights[name] for name in made_by[node.input[1]].input[:2])
        assert quantised.data_type == onnx.TensorProto.INT8
        assert list(scale.dims) == [quantised.dims[0]]  # of each output channel
    assert (int8 / "small.onnx").stat().st_size < (int8 / "float32.onnx").stat().st_size
    (_, small), (_, large) = (mgd.load_network(int8 / f"{n}.onnx") for n in ("small", "float32"))
    assert small == large
    assert small.classes == tuple("0123456789")


def test_int8_predicts_and_is_measured_and_compared_as_other_files(int8, here, told):
    from torchvision.transforms.v2.functional import to_pil_image

    split = load_digits().valid
    for number in range(20):
        to_pil_image(split.image(number)).save(f"{number:02}.png")
    told("predict", "*.png", "--model", int8 / "small.onnx", "--format", "csv", "-o", "found.csv")
    rows = list(csv.DictReader(Path("found.csv").read_text().splitlines()))
    network, metadata = mgd.load_network(int8 / "small.onnx")
    scores = network(torch.stack([metadata.view(split.image(n)) for n in range(20)]))
    assert [row["class_1"] for row in rows] == [str(int(k)) for k in scores.argmax(1)]
    lines = told("evaluate", "digits", "--model", int8 / "small.onnx")
    assert float(re.search(r"Acc@1 (\S+)", "\n".join(lines))[1]) > 30
    told("compare", int8 / "small.onnx", "--rounds", 1, "-o", "out")
    (each,) = json.loads(Path("out/comparison.json").read_text())["networks"]
    assert each["cost"]["file_bytes"] == (int8 / "small.onnx").stat().st_size
    assert each["cost"]["classes"] == 10


def test_int8_lies_in_the_run_folder_beside_the_float32_file(run, told):
    words = ["--images", 5, "--calibration-images", 10, "--least-agreement", 0]
    lines = told("export", run, "--int8", *words)
    assert lines[0].startswith("proven on 5 images of ")
    assert lines[-1] == "runs/first/student-int8.onnx"
    assert not (run / "student.onnx").exists()


@pytest.mark.parametrize(
    ("kind", "make", "figures"),
    [
        ("onnx", lambda logits: logits + 0.5, r"up to 0\.5 from .*, \d\S* of the largest"),
        ("pt2", lambda logits: logits * torch.nan, "up to nan from .*, nan of the largest"),
        ("pt2", lambda logits: -logits, r"up to \d.* \(the same top-1 answer on 0 of 40 images\)"),
    ],
)
def test_a_file_that_answers_otherwise_is_not_kept(run, refused, wrong, kind, make, figures):
    Path(f"net.{kind}").write_bytes(b"earlier")
    wrong(make)
    line = refused("export", run, "-o", f"net.{kind}")
    assert re.search(f"'net.{kind}' is not kept: its logits differ by {figures}", line)
    assert "--tolerance is 0.0001" in line
    assert "choose another --format, or a larger --tolerance" in line
    assert Path(f"net.{kind}").read_bytes() == b"earlier"


def test_what_is_near_enough_is_for_the_user_to_say(run, told, wrong):
    wrong(lambda logits: logits + 0.001)
    *_, file, card = told("export", run, "-o", "net.pt2", "--tolerance", 0.5)
    assert (file, card) == ("net.pt2", "net.pt2.md")


def test_int8_that_answers_otherwise_is_not_kept(run, refused, wrong):
    Path("net.onnx").write_bytes(b"earlier")
    wrong(lambda logits: -logits)
    line = refused("export", run, "-o", "net.onnx", "--int8")
    assert "in int8 it has the same top-1 answer on 0 of 40 images" in line
    assert "--least-agreement is 0.95; give more --calibration-images" in line
    assert Path("net.onnx").read_bytes() == b"earlier"


def test_a_file_that_does_not_run_is_not_kept(run, refused, monkeypatch):
    written = command.write_network

    def damaged(network, metadata, path, kind):
        made = written(network, metadata, path, kind)
        path.write_bytes(b"cut")
        return made

    monkeypatch.setattr(command, "write_network", damaged)
    for kind in ("onnx", "pt2", "safetensors"):
        line = refused("export", run, "-o", f"net.{kind}")
        assert line.startswith(f"mgd: 'net.{kind}' is damaged"), line


def test_a_network_that_diverged_is_told(run, refused):
    weights = load_file(run / "student.safetensors")
    torch.save({name: tensor * torch.nan for name, tensor in weights.items()}, run / "nan.pth")
    about = mgd.load_network(run / "student.safetensors")[1]
    (run / "nan.json").write_text(about.to_json())
    line = refused("export", run / "nan.pth", "-o", "net.pth")
    assert "gives logits on real images that are no finite numbers" in line


def move(run, place):
    """Has a run say that its images lie elsewhere."""
    args = yaml.safe_load((run / "args.yaml").read_text())
    (run / "args.yaml").write_text(yaml.safe_dump({**args, "data": str(place)}))


def test_images_that_have_moved_are_named_or_given_up(run, photos, told, refused):
    move(run, "gone/photos")
    for words, instead in (([], "write it unproven with --no-proof"), (["--int8"], "leave out")):
        line = refused("export", run, "-o", "net.onnx", *words)
        assert "no images to prove the file on: data folder 'gone/photos' does not exist" in line
        assert "name their folder with --data DIR, or " + instead in line
    line = refused("export", run, "--int8", "--no-proof")
    assert "no images to calibrate --int8 on: data folder 'gone/photos'" in line
    assert told("export", run, "-o", "net.pth", "--data", photos)[0] == (
        f"proven on 40 images of {photos}"
    )
    assert told("export", run, "-o", "net.pth", "--no-proof")[:2] == [
        "nothing was proven, since --no-proof was given",
        "net.pth",
    ]


def test_a_file_outside_a_run_is_proven_where_images_are_given(run, photos, told, refused):
    shutil.copy(run / "student.safetensors", "alone.safetensors")
    first, *files = told("export", "alone.safetensors", "-o", "net.pth")
    assert first.startswith("nothing was proven: 'alone.safetensors' lies in no run folder")
    assert files == ["net.pth", "net.json"]
    lines = told("export", "alone.safetensors", "-o", "net.pth", "--data", photos)
    assert found(lines)[:2] == (40, 40)
    line = refused("export", "alone.safetensors", "-o", "net.onnx", "--int8")
    assert "'alone.safetensors' lies in no run folder, and names no data; name their" in line


def test_images_of_other_classes_have_no_accuracy(run, told):
    lines = told("export", run, "-o", "net.pth", "--data", "digits", "--images", 7)
    assert lines[0] == "proven on 7 images of digits, 0 of them with a label"
    agreeing, images, _, rows = found(lines)
    assert (agreeing, images) == (7, 7)
    assert [row[2] for row in rows] == ["–", "–"]


def test_a_run_without_labels_is_proven_on_what_it_held_out(run, photos, told, tmp_path):
    shutil.copytree(photos / "train", tmp_path / "any")
    args = yaml.safe_load((run / "args.yaml").read_text())
    values = {**args, "data": str(tmp_path / "any"), "label-free": True, "holdout": 0.1}
    (run / "args.yaml").write_text(yaml.safe_dump(values))
    lines = told("export", run, "-o", "net.pth")
    assert lines[0] == f"proven on 8 images of {tmp_path / 'any'}, 0 of them with a label"
    shutil.copytree(photos / "valid", tmp_path / "any" / "valid")
    lines = told("export", run, "-o", "net.pth")
    assert lines[0] == f"proven on 40 images of {tmp_path / 'any'}"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--images 0", "--images 0 is out of range; give at least 1"),
        ("--tolerance -1", "--tolerance -1.0 is out of range; give at least 0"),
        ("--tolerance nan", "--tolerance nan is out of range"),
        ("--tolerance few", "'few' is not usable, give a number"),
        ("--int8 --least-agreement 2", "--least-agreement 2.0 is out of range; give from 0 to 1"),
        ("--int8 --calibration-images 0", "--calibration-images 0 is out of range"),
        ("--int8 --format pt2", "--int8 is for onnx files alone; give --format onnx, not pt2"),
        ("--int8 -o x.pth", "--int8 is for onnx files alone; give --format onnx, not pth"),
        ("--int8 --tolerance 1", "--tolerance has no effect with --int8; leave it out"),
        ("--least-agreement 1", "--least-agreement has no effect without --int8; leave it out"),
        ("--calibration-images 9", "--calibration-images has no effect without --int8"),
        ("--no-proof --images 9", "--images has no effect with --no-proof; leave it out"),
        ("--no-proof --tolerance 1", "--tolerance has no effect with --no-proof"),
        ("--no-proof --data digits", "--data has no effect with --no-proof"),
        ("--data note.txt", "data folder 'note.txt' does not exist"),
        ("--data empty", "'empty' has no folder `train`"),
    ],
)
def test_flags_that_cannot_be_used_are_one_line(run, refused, words, reason):
    Path("empty").mkdir()
    Path("note.txt").write_text("hello\n")
    assert reason in refused("export", run, *words.split())


@pytest.mark.parametrize("when", ["prove", "write_whole"])
def test_an_interrupted_export_keeps_the_earlier_file(run, monkeypatch, when):
    def stop(*given, **options):
        raise KeyboardInterrupt

    Path("net.pth").write_bytes(b"earlier")
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr(command, when, stop)
    assert main(["export", str(run), "-o", "net.pth"]) == 130
    assert Path("net.pth").read_bytes() == b"earlier"
    assert sorted(Path().rglob("*")) == before


def test_the_card_goes_with_a_file_that_leaves_the_run(run, told):
    lines = told("export", run, "-o", "net.pth")
    assert lines[-3:] == ["net.pth", "net.json", "net.pth.md"]
    card = (run / "MODEL_CARD.md").read_text()
    text = Path("net.pth.md").read_text()
    assert text.startswith(card)
    about = text.removeprefix(card)
    assert "## This file" in about
    assert "`net.pth` is an export of these weights:" in about
    assert all(line in about for line in lines[:-3])
    told("export", run, "-o", "net.pth")  # its own card may be replaced
    told("export", run, "--format", "pth")
    assert not (run / "student.pth.md").exists()
    told("export", run / "last.ckpt", "-o", "last.pth")  # the card is of the best epoch
    assert not Path("last.pth.md").exists()


def test_another_files_card_is_not_replaced(run, refused):
    Path("net.onnx.md").write_text("# Mine\n")
    line = refused("export", run, "-o", "net.onnx")
    assert "'net.onnx.md', where the model card belongs, is another file" in line
    assert Path("net.onnx.md").read_text() == "# Mine\n"
