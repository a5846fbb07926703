"""Times an epoch in which the teacher rests, and compares it with training the student alone.

`python -m benchmarks.views_kept`, on random images. It writes the table of `docs/kept-answers.md`.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.io import write_png

import mgd
from benchmarks.common import DEVICE, RESULTS, arguments, clock, fill, keep, kept, median, ratio
from benchmarks.tables import table
from mgd.engine.loop.runlog import Reporter
from mgd.engine.options.config import RunConfig
from mgd.engine.run import train
from mgd.runfolder import EpochRecord

PAGE = RESULTS.parent.parent / "docs" / "kept-answers.md"
COMMAND = "python -m benchmarks.views_kept"
TEACHER, STUDENT = "cifar_resnet56", "cifar_resnet20"
BATCH, IMAGES, VIEWS, EPOCHS = 64, 256, 1, 3
ALONE = "the student alone"
ONLINE: dict[str, Any] = {"distiller": "mgd", "mgd_with_kd": 1, "mgd_tracking": "online"}
RUNS: dict[str, dict[str, Any]] = {
    ALONE: {"distiller": "none"},
    "kd, the teacher runs": {"distiller": "kd"},
    "kd, it rests": {"distiller": "kd", "teacher_views": VIEWS},
    "mgd + kd online, the teacher runs": ONLINE,
    "mgd + kd online, it rests": {**ONLINE, "teacher_views": VIEWS},
    "mgd + kd, matching solved once, it rests": {
        **ONLINE, "mgd_tracking": "pass", "mgd_update_freq": 0, "teacher_views": VIEWS,
    },
}  # fmt: skip
"""What is trained -> the options for it."""


class Timer(Reporter):
    """Takes the time of the steps of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = self._last = 0.0

    def start_epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Starts the clock."""
        self._start = clock()

    def step(self, done: int, values: Mapping[str, float]) -> None:
        """Reads the clock."""
        self._last = clock()

    def end_epoch(self, record: EpochRecord) -> None:
        """Keeps the time until the last step, so that validation does not count."""
        self.seconds.append(self._last - self._start)


def write_images(folder: Path) -> None:
    """Writes images of noise in two classes, and few to validate, which takes no part here."""
    for part, count in (("train", IMAGES), ("valid", 2)):
        for number in range(count):
            path = folder / part / "ab"[number % 2]
            path.mkdir(parents=True, exist_ok=True)
            noise = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
            write_png(noise, str(path / f"{number}.png"))


@torch.no_grad()
def write_teacher(path: Path) -> None:
    """Writes random weights with BatchNorm statistics: without, the features grow and grow."""
    network = mgd.create_model(TEACHER, 2).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches, of which there is one
    network(torch.randn(BATCH, 3, 32, 32))
    torch.save(network.state_dict(), path)


def measure(folder: Path, **options: Any) -> float:
    """Returns the seconds of an epoch after those in which the teacher runs."""
    timer = Timer()
    if options["distiller"] != "none":
        options |= {"teacher": TEACHER, "teacher_resume": str(folder / "teacher.pth")}
    with tempfile.TemporaryDirectory() as output:
        config = RunConfig().replace(
            data=str(folder / "images"), size=32, arch=STUDENT, workers=0, epochs=EPOCHS,
            batch_size=BATCH, tensorboard=0, mgd_images=IMAGES, output=output, **options,
        )  # fmt: skip
        train(config, timer)
    return median(timer.seconds[VIEWS:])


def page(text: str, found: Mapping[str, Any]) -> str:
    """Returns the page with the table of the results."""
    over = found["over the student alone"]
    rows = [[name, found["seconds"][name], over[name]] for name in RUNS]
    header = ["what is trained", "an epoch, s", "over the student alone"]
    return fill(text, {"rests": table(header, rows).rstrip()})


def main() -> None:
    """Measures, keeps the figures, and writes them on the page."""
    options = arguments(__doc__, rounds=3)
    seconds: dict[str, list[float]] = {name: [] for name in RUNS}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_images(folder / "images")
        write_teacher(folder / "teacher.pth")
        for _ in range(options.rounds):
            for name, flags in RUNS.items():
                seconds[name].append(measure(folder, **flags))
    setting = (
        f"{TEACHER} -> {STUDENT}, {IMAGES} images of 32 px, batch {BATCH}, the steps of an epoch "
        f"after the first, medians of {options.rounds} rounds of {EPOCHS - VIEWS} epochs"
    )
    found = {
        "setting": setting,
        "device": DEVICE,
        "seconds": {name: median(each) for name, each in seconds.items()},
        "over the student alone": {
            name: ratio(each, seconds[ALONE]) for name, each in seconds.items()
        },
    }
    keep("views_kept", COMMAND, found)
    PAGE.write_text(page(PAGE.read_text(), kept("views_kept")))


if __name__ == "__main__":
    main()
