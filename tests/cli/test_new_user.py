"""A new user's way, by real commands: from a folder of images to a network in another program."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import forking
import mgd

MGD = str(Path(mgd.__file__).with_name("__main__.py"))
ELSEWHERE = Path(__file__).with_name("elsewhere.py")
FAST = ["-b", "20", "-j", "0"]


@pytest.fixture
def here(tmp_path, scans):
    """A folder with photographs, wider than high, of four classes."""
    images, labels = scans
    for label, name in enumerate(("zero", "one", "two", "three")):
        for number, image in enumerate(images[labels == label][:30]):
            folder = tmp_path / "photos" / ("train" if number < 20 else "valid") / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((48, 40)).save(folder / f"{name}{number}.png")
    return tmp_path


@pytest.fixture
def mgd_(here):
    """Runs a command as a user's process does, and returns the lines that it prints."""

    def run(*words):
        (here / "printed").unlink(missing_ok=True)
        process = forking.start(forking.run_script, here, MGD, [str(word) for word in words])
        assert forking.end_of(process, here) == 0, forking.printed(here)
        return forking.printed(here).splitlines()

    return run


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_from_a_folder_of_images_to_a_network_in_another_program(here, mgd_):
    network = ["--arch", "torchvision:shufflenet_v2_x0_5", "--size", "42"]
    mgd_("train", "photos", "--arch", "cifar_resnet8", "--size", "20", "--epochs", "8", *FAST,
         "--lr-schedule", "cosine", "--experiment", "teacher")  # fmt: skip
    told = mgd_("distill", "photos", "--teacher-resume", "runs/teacher", *network, "--epochs", "8",
                "--lr", "0.02", "--experiment", "student", "-j", "0", "-b", "10")  # fmt: skip
    assert told[0] == "data     photos: 80 images to train, 40 to validate"
    assert "sees 42 px, center 87.5 %, bilinear, mean and std of ImageNet" in "\n".join(told)

    # The README's order: the evaluations lie beside the runs when the report is made, and the
    # report when it is made again.
    told = mgd_("evaluate", "runs/student")
    (score,) = (line for line in told if line.startswith("student: "))
    accuracy = re.match(r"student: Acc@1 (\S+) .* on 40 images", score)[1]
    for _ in range(2):
        runs = sorted(path.relative_to(here) for path in (here / "runs").iterdir())
        assert mgd_("report", *runs) == ["runs/report.html"]
    page = (here / "runs" / "report.html").read_text()
    assert f"<td>{float(accuracy):.2f}</td>" in page
    assert {Path("runs/evaluate-student"), Path("runs/report.html")} < set(runs)

    mgd_("predict", "photos/valid", "--model", "runs/student", "--format", "csv", "-o", "own.csv")
    answers = {row["image"]: row["class_1"] for row in table(here / "own.csv")}
    assert len(answers) == 40
    confusion = {}
    for image, answer in answers.items():
        pair = Path(image).parent.name, answer
        confusion[pair] = confusion.get(pair, 0) + 1
    measured = table(here / "runs" / "evaluate-student" / "confusion.csv")
    assert confusion == {(row["class"], row["answer"]): int(row["images"]) for row in measured}
    right = sum(images for (name, answer), images in confusion.items() if name == answer)
    assert accuracy == f"{100 * right / 40:.1f}"
    assert right > 16  # of 40, where chance is 10: a network that tells nothing proves nothing

    files = [f"given.{kind}" for kind in ("safetensors", "pth", "pt2", "onnx")]
    for file in files:
        mgd_("export", "runs/student", "-o", file)
    words = [sys.executable, "-I", ELSEWHERE, "photos/valid", *files]
    done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == dict.fromkeys(files, answers)
