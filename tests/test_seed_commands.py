"""Every command of the original read-me, as a process, on real images.

Only the data folder, image size, epochs and batch differ; options that a command does not name keep
their defaults. The pretrained teacher comes from the cache that a first use of torchvision fills:
random weights stand in for it here.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

import forking

ROOT = Path(__file__).parent.parent
SMALL = "--size 32 --batch-size 4 --epochs 1 --warmup-epochs 1 --workers 0 --learning-rate 0.001"

BASE = "main_base.py DATA --arch mobilenet_v1"
MGD = "main_mgd.py DATA --arch mobilenet_v1 --distiller mgd --mgd-reducer amp --mgd-update-freq 1"
DDP = " --world-size 1 --rank 0 --dist-url 'tcp://localhost:PORT' --multiprocessing-distributed"
TRANSFER = (
    "main_mgd.py DATA --arch {arch} --epochs 120 --batch-size 64 --learning-rate 0.01 "
    "--distiller mgd --mgd-reducer amp --mgd-update-freq 2 --use-pretrained 1 "
    "--teacher-resume TEACHER"
)
COMMANDS = {
    "base": BASE,
    "mgd": MGD,
    # Of the 1000 classes of the published weights the data here has 3, so KD needs another teacher.
    "mgd with kd": f"{MGD} --mgd-with-kd 1 --teacher-resume TEACHER",
    "ddp": MGD + DDP,
    "ddp with sync-bn": MGD + DDP + " --sync-bn 1",
    "evaluate": f"{BASE} --teacher-resume TEACHER --student-resume STUDENT --evaluate",
    "transfer mobilenet_v2": TRANSFER.format(arch="mobilenet_v2"),
    "transfer shufflenet_v2": TRANSFER.format(arch="shufflenet_v2"),
    "transfer with kd": TRANSFER.format(arch="shufflenet_v2") + " --mgd-with-kd 1",
    "imagenet": (
        "main_mgd.py DATA --arch mobilenet_v1 --epochs 120 --print-freq 10 --batch-size 256 "
        "--learning-rate 0.1 --distiller mgd --mgd-reducer amp --mgd-update-freq 1 --warmup 1"
    ),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cache with the three pretrained networks, and checkpoints of a teacher and a student."""
    home = tmp_path_factory.mktemp("home")
    cache = home / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    for name in ("resnet50", "mobilenet_v2", "shufflenet_v2_x1_0"):
        url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
        network = torchvision.models.get_model(name)
        torch.save(network.state_dict(), cache / url.rpartition("/")[2])
    import mgd

    for name, arch in (("teacher", "resnet50"), ("student", "mobilenet_v1")):
        state = {"state_dict": mgd.create_model(arch, num_classes=3).state_dict()}
        torch.save(state, home / f"{name}.pth")
    return home


CASES = [(name, "") for name in COMMANDS] + [("mgd", None)]
"""Command, CUDA_VISIBLE_DEVICES; `None`: not set."""


OWN_INTERPRETER = ("base", "ddp")
"""Started as from a shell, the ranks too; the others are forked, and spare the imports."""


def run(words, folder, own_interpreter, environment):
    """Returns the exit code and what was printed."""
    script, *options = shlex.split(words)
    words = [*options, *SMALL.split()]
    if own_interpreter:
        given = {name: value for name, value in environment.items() if value is not None}
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *words],
            cwd=folder,
            env={**os.environ, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=forking.PATIENCE,
        )
        return done.returncode, done.stdout
    process = forking.start(forking.run_script, folder, str(ROOT / script), words, **environment)
    return forking.end_of(process, folder), forking.printed(folder)


@pytest.mark.parametrize(("name", "visible"), CASES, ids=str)
def test_command(name, visible, home, image_folder, tmp_path, free_port):
    words = COMMANDS[name]
    for key, value in {
        "DATA": image_folder,
        "TEACHER": home / "teacher.pth",
        "STUDENT": home / "student.pth",
        "PORT": free_port,
    }.items():
        words = words.replace(key, str(value))
    environment = {"TORCH_HOME": str(home), "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": visible}
    code, printed = run(words, tmp_path, name in OWN_INTERPRETER, environment)
    assert code == 0, printed
    assert "Traceback" not in printed
    if name == "evaluate":
        assert re.search(r"^teacher: Acc@1 [\d.]+ .* on \d+ images", printed, re.MULTILINE)
        assert re.search(r"^student: Acc@1 [\d.]+ .* on \d+ images", printed, re.MULTILINE)
    else:
        (summary,) = (tmp_path / "runs").glob("*/summary.csv")
        epochs = 2 if "--warmup 1" in words else 1
        assert len(summary.read_text().splitlines()) == 1 + epochs
        assert (summary.parent / "student.safetensors").stat().st_size > 1_000_000
