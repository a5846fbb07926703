"""Times whole epochs on CIFAR-10, and compares them with the same networks in a bare PyTorch loop.

`python -m benchmarks.epoch --cifar FOLDER`; the folder has `train` and `valid`.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import mgd
from benchmarks.common import DEVICE, WALL, arguments, keep, median, ratio
from mgd.engine.options.config import RunConfig
from mgd.engine.run import train
from mgd.runfolder import read_epochs
from mgd.views import MEAN, STD

TEACHER, STUDENT = "cifar_resnet20", "cifar_resnet20_x0_5"
BATCH, IMAGES, WORKERS, EPOCHS = 128, 4096, 1, 3
BARE = "bare PyTorch loop, kd"


def bare_loop(folder: Path) -> list[float]:
    """Trains with plain KD as in a tutorial; returns the seconds of each epoch after the first."""
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    dataset = ImageFolder(str(folder / "train"), transform)
    chosen = torch.randperm(len(dataset))[:IMAGES].tolist()
    loader = DataLoader(
        Subset(dataset, chosen), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )
    teacher = mgd.create_model(TEACHER, 10).to(DEVICE).eval()
    student = mgd.create_model(STUDENT, 10).to(DEVICE).train()
    optimizer = torch.optim.SGD(student.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for images, labels in loader:
            images, labels = images.to(DEVICE), labels.to(DEVICE)
            with torch.no_grad():
                targets = F.log_softmax(teacher(images) / 1.5, dim=1)
            logits = student(images)
            guesses = F.log_softmax(logits / 1.5, dim=1)
            kd = F.kl_div(guesses, targets, reduction="batchmean", log_target=True) * 1.5**2
            loss = F.cross_entropy(logits, labels) + kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def engine(folder: Path, runs: Path, **options: Any) -> dict[str, float]:
    """Runs this package; returns medians over the epochs after the first."""
    config = RunConfig().replace(
        data=str(folder), size=32, teacher=TEACHER, arch=STUDENT, use_pretrained=0, epochs=EPOCHS,
        learning_rate=0.05, batch_size=BATCH, train_images=IMAGES, workers=WORKERS, tensorboard=0,
        mgd_images=IMAGES // 8, output=str(runs), **options,
    )  # fmt: skip
    epochs = read_epochs(train(config).folder)[1:]
    return {
        "training": median(IMAGES / epoch.images_per_s for epoch in epochs),
        "waiting for data": median(epoch.data_wait for epoch in epochs),
        "all, with validation and updates": median(epoch.seconds for epoch in epochs),
    }


def main() -> None:
    """Measures, if there is a CIFAR-10 folder with `train` and `valid`."""
    options = arguments(__doc__, rounds=3, cifar="BENCH_CIFAR")
    if not options.cifar:
        print("epoch: skipped, no CIFAR-10 folder given (--cifar or $BENCH_CIFAR)")
        return
    folder = Path(options.cifar)
    runs: dict[str, dict[str, Any]] = {
        "kd": {"distiller": "kd"},
        "mgd+kd": {"distiller": "mgd", "mgd_with_kd": 1},
        "mgd+kd, online": {"distiller": "mgd", "mgd_with_kd": 1, "mgd_tracking": "online"},
    }
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in (BARE, *runs)}
    for _ in range(options.rounds):
        rows[BARE].append({"training": median(bare_loop(folder))})
        for name, flags in runs.items():
            with tempfile.TemporaryDirectory() as output:
                rows[name].append(engine(folder, Path(output), **flags))
    found = {
        name: {key: median(row[key] for row in measured) for key in measured[0]}
        for name, measured in rows.items()
    }
    training = {name: [row["training"] for row in measured] for name, measured in rows.items()}
    ratios = {name: ratio(seconds, training[BARE]) for name, seconds in training.items()}
    setting = (
        f"{TEACHER} -> {STUDENT}, {IMAGES} images, batch {BATCH}, {WORKERS} worker, "
        f"medians of {options.rounds} rounds of {EPOCHS - 1} epochs"
    )
    keep(
        "epoch",
        "python -m benchmarks.epoch --cifar FOLDER",
        {"setting": setting, "device": DEVICE, "seconds": found, "training / bare": ratios},
        clock=WALL,
    )


if __name__ == "__main__":
    main()
