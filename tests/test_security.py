"""What a hostile file or name cannot do. Pickles: tests/engine/loop/test_checkpoint.py."""

import json
import os
import pickle
import re
import resource
import socket
import struct
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import mgd
from browser import dom_of
from mgd.cli import main
from mgd.engine.loop.checkpoint import save_weights
from mgd.models import to_onnx, to_pt2
from mgd.models.weights import read_weights

WORDS = ["--size", "8", "--arch", "cifar_resnet8_x0_25", "-b", "10", "-j", "0", "--epochs", "1"]
WORDS += ["--tensorboard", "0"]
TEACHER = ["--teacher", "cifar_resnet8_x0_5", "--use-pretrained", "0", "--train-images", "20"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


def header_claiming(size, header=b"{}"):
    return struct.pack("<Q", size) + header


HEADERS = {
    "more than the file": header_claiming(10**6),
    "more than there is memory": header_claiming(2**60),
    "all bits": header_claiming(2**64 - 1),
    "a tensor of an exabyte": header_claiming(
        80,
        json.dumps({"w": {"dtype": "F32", "shape": [2**58], "data_offsets": [0, 2**60]}})
        .ljust(80)
        .encode(),
    ),
    "nested a thousand deep": header_claiming(10_000, b'{"a":' * 2000),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_safetensors_header_cannot_ask_for_memory(kind, capsys):
    Path("w.safetensors").write_bytes(HEADERS[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words = ["evaluate", "digits", *WORDS, "--student-resume", "w.safetensors"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("mgd: 'w.safetensors' is damaged or not a complete safetensors file (")
    assert said.count("\n") == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.fixture
def no_network(monkeypatch):
    """Counts and refuses every attempt to reach or look up another machine."""
    attempts = []

    def refuse(*arguments, **options):
        attempts.append(arguments)
        raise OSError("no network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    return attempts


@pytest.mark.usefixtures("few_digits")
def test_nothing_asks_the_network_unless_told_to(no_network, capsys):
    run = ["--experiment", "run"]
    assert main(["distill", "digits", *WORDS, *TEACHER, *run]) == 0
    student = ["--student-resume", "runs/run/student.safetensors"]
    assert main(["evaluate", "digits", *WORDS, *student]) == 0
    assert main(["evaluate", "runs/run", "-j", "0"]) == 0
    Image.new("RGB", (8, 8)).save("image.png")
    assert main(["predict", "image.png", "--model", "runs/run"]) == 0
    assert main(["points", "--teacher", "resnet18", "--arch", "resnet18", "--size", "32"]) == 0
    assert main(["report", "runs/run"]) == 0
    assert main(["compare", "runs/run", "cifar_resnet8", "--rounds", "1"]) == 0
    assert main(["export", "runs/run", "--format", "pth"]) == 0
    assert no_network == []


@pytest.mark.usefixtures("few_digits")
def test_a_pretrained_weight_does_ask_and_says_so(no_network, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(Path.cwd() / "empty"))
    words = [*WORDS, "--arch", "resnet18", "--train-images", "20", "--use-pretrained", "1"]
    assert main(["train", "digits", *words]) == 2
    assert "cannot be downloaded" in capsys.readouterr().err
    assert no_network


HOSTILE = "<img src=x onerror=document.title='obeyed'>"
SCRIPT = "<script>document.title='obeyed'"


def test_the_browser_would_obey_a_page_that_is_not_escaped():
    page = Path("page.html")
    page.write_text(f"<title>page</title>{SCRIPT}</script>")
    assert "<title>obeyed</title>" in dom_of(page.absolute().as_uri())


def test_hostile_class_and_run_names_are_inert_in_a_browser(image_folder):
    for part in ("train", "valid"):
        (image_folder / part / "one").rename(image_folder / part / HOSTILE)
        (image_folder / part / "two").rename(image_folder / part / SCRIPT)
    runs = []
    for name in (HOSTILE, SCRIPT):
        words = ["distill", str(image_folder), *WORDS, *TEACHER, "--train-images", "0"]
        assert main([*words, "--experiment", name]) == 0
        runs.append(os.path.join("runs", name))
    assert main(["report", *runs, "-o", "report.html"]) == 0
    assert SCRIPT.encode() not in Path("report.html").read_bytes()
    dom = dom_of(Path("report.html").absolute().as_uri())
    assert "<title>obeyed" not in dom
    assert dom.count("<script") == 1  # the page's own, which its policy names by its digest
    assert not re.search(r'<img [^>]*src="(?!data:image/)', dom)  # but for thumbnails and maps
    assert "&lt;script&gt;document.title" in dom  # shown, as text


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("option", ["arch", "teacher"])
def test_code_is_named_on_the_command_line_alone(option, capsys):
    """Neither by a run's args.yaml, nor by a checkpoint's config."""
    Path("mine.py").write_text("open('obeyed', 'w')\n")
    assert main(["train", "digits", *WORDS, *TEACHER, "--experiment", "run"]) == 0
    folder = Path("runs/run")
    options = yaml.safe_load((folder / "args.yaml").read_text())
    (folder / "args.yaml").write_text(yaml.safe_dump({**options, option: "mine:build"}))
    state = torch.load(folder / "last.ckpt", weights_only=True)
    state["config"][option] = "mine:build"
    from mgd.engine.loop.checkpoint import save_checkpoint

    state.pop("checksum")
    save_checkpoint(state, folder / "last.ckpt")
    capsys.readouterr()
    assert main(["train", "digits", "-c", str(folder / "args.yaml")]) == 2
    assert "would run code named in a file" in capsys.readouterr().err
    words = ["train", "digits", *WORDS, *TEACHER, "--epochs", "2", "--experiment", "run"]
    assert main([*words, "--resume", "auto"]) == 2
    assert f"made with --{option} mine:build" in capsys.readouterr().err
    main(["report", str(folder)])
    main(["export", str(folder), "--format", "pth"])
    assert not Path("obeyed").exists()


METADATA = mgd.Metadata(arch="mine:build", classes=("a", "b"), view=mgd.View(size=8))


def forge(kind, metadata):
    """Writes a file of a small network that says it is of somebody's code."""
    path, network = Path(f"forged.{kind}"), mgd.create_model("cifar_resnet8_x0_25", 2).eval()
    if kind == "safetensors":
        save_weights(network, path, metadata)
    elif kind == "ckpt":
        torch.save({"student": network.state_dict(), "mgd": metadata.to_plain()}, path)
    elif kind == "pth":
        torch.save(network.state_dict(), path)
        Path("forged.json").write_text(metadata.to_json())
    else:
        write = to_pt2 if kind == "pt2" else to_onnx
        with path.open("wb") as file:
            write(network, metadata, file)
    return str(path)


@pytest.fixture
def image():
    Image.new("RGB", (8, 8)).save("image.png")
    return "image.png"


@pytest.mark.parametrize("kind", ["safetensors", "ckpt", "pth"])
@pytest.mark.usefixtures("few_digits")
def test_forged_metadata_run_no_code(kind, image, capsys):
    Path("mine.py").write_text("open('obeyed', 'w')\n")
    file = forge(kind, METADATA)
    for words in (
        ["predict", image, "--model", file],
        ["evaluate", "digits", "--model", file],
        ["export", file, "-o", "out.pth"],
        ["train", "digits", "--student-resume", file],
        ["distill", "digits", "--teacher-resume", file, "--arch", "cifar_resnet8"],
    ):
        assert main(words) == 2
        assert "is of 'mine:build', which is code; name it with" in capsys.readouterr().err
    assert not Path("obeyed").exists()


@pytest.mark.needs("the compiler of 2.6 cannot trace the shape checks of the tests", torch="2.7")
@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_an_exported_network_needs_no_code_whatever_its_metadata_say(kind, image):
    Path("mine.py").write_text("open('obeyed', 'w')\n")
    assert main(["predict", image, "--model", forge(kind, METADATA)]) == 0
    assert not Path("obeyed").exists()


def hostile_pt2():
    """A .pt2 file that makes a folder when it is loaded."""

    class Order:
        def __reduce__(self):
            return os.mkdir, ("obeyed",)

    whole = Path(forge("pt2", METADATA))
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile("hostile.pt2", "w") as hostile:
        for entry in archive.infolist():
            content = archive.read(entry)
            if "inputs" in entry.filename:
                content = pickle.dumps(Order(), protocol=2)
            hostile.writestr(entry.filename, content)
    whole.unlink()
    return "hostile.pt2"


@pytest.mark.needs("the compiler of 2.6 cannot trace the shape checks of the tests", torch="2.7")
@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("option", ["student-resume", "teacher-resume", "model"])
def test_a_pt2_is_loaded_only_if_the_command_line_names_it(option, capsys):
    """Loading one runs code, as docs/reliability.md says; a file of options must not ask for it."""
    file = hostile_pt2()
    Path("options.yaml").write_text(yaml.safe_dump({"data": "digits", option: file}))
    assert main(["evaluate", "-c", "options.yaml"]) == 2
    said = capsys.readouterr().err
    assert f"{option} 'hostile.pt2' would run code named in a file; give --{option}" in said
    assert not Path("obeyed").exists()
    main(["evaluate", "digits", "--model", file])
    assert Path("obeyed").exists(), "torch loads it without running code: say so in the docs"


def test_what_an_evaluation_says_is_text_in_the_report():
    network = {"role": SCRIPT, "arch": HOSTILE, "weights": SCRIPT, "sha256": "", "view": HOSTILE}
    network |= {"top1": 50.0, "top5": 90.0, "loss": 1.0, "images": 10}
    folder = Path(HOSTILE)
    folder.mkdir()
    plain = {"data": SCRIPT, "networks": [network]}
    (folder / "evaluation.json").write_text(json.dumps(plain))
    assert main(["report", str(folder), "-o", "report.html"]) == 0
    page = Path("report.html").read_text()
    assert SCRIPT not in page
    assert "<img src=x" not in page
    assert page.count("&lt;script&gt;") >= 3


@pytest.mark.parametrize("experiment", ["../out", "a/../../out", "/anywhere/out", "..", "."])
def test_a_run_folder_stays_below_the_output_folder(experiment, capsys):
    """A config found somewhere must not choose a place to write to by its run's name."""
    words = ["train", "digits", *WORDS, "--train-images", "20"]
    assert main([*words, "--experiment", experiment]) == 2
    assert "--experiment" in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


def test_weights_are_read_without_running_anything():
    class Order:
        def __reduce__(self):
            return os.mkdir, ("obeyed",)

    torch.save({"state_dict": Order()}, "w.pth")
    with pytest.raises(ValueError, match="not loaded for safety"):
        read_weights("w.pth")
    assert not Path("obeyed").exists()
