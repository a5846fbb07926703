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
    "mgd with kd": f"{MGD} --mgd-with-kd 1",
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
    environment = {**os.environ, "TORCH_HOME": str(home), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    script, *options = shlex.split(words)
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *options, *SMALL.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if name == "evaluate":
        assert re.search(r"^teacher: Acc@1 [\d.]+ .* on \d+ images", done.stdout, re.MULTILINE)
        assert re.search(r"^student: Acc@1 [\d.]+ .* on \d+ images", done.stdout, re.MULTILINE)
    else:
        (summary,) = (tmp_path / "runs").glob("*/summary.csv")
        epochs = 2 if "--warmup 1" in words else 1
        assert len(summary.read_text().splitlines()) == 1 + epochs
        assert (summary.parent / "student.safetensors").stat().st_size > 1_000_000
