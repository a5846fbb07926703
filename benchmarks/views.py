"""Measures what a wrong view costs: a network trained on digits is shown them in other ways.

`python -m benchmarks.views` writes the table of `docs/views.md`.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

import mgd
from benchmarks.common import RESULTS, arguments, fill, keep, kept
from benchmarks.tables import table
from mgd import View
from mgd.data import load_digits
from mgd.data.splits import Split
from mgd.views import Preprocess

PAGE = RESULTS.parent.parent / "docs" / "views.md"
COMMAND = "python -m benchmarks.views"
TRAINED = View(size=32, crop="squash", crop_pct=1.0)
HALF = (0.5, 0.5, 0.5)
SHOWN = {
    "as in its training": TRAINED,
    "mean and std 0.5": TRAINED.replace(mean=HALF, std=HALF),
    "mean 0, std 1": TRAINED.replace(mean=(0.0,) * 3, std=(1.0,) * 3),
    "24 px": TRAINED.replace(size=24),
    "64 px": TRAINED.replace(size=64),
    "centre of 87.5 %": TRAINED.replace(crop="center", crop_pct=0.875),
    "nearest": TRAINED.replace(interpolation="nearest"),
}
"""What is said of the view -> the view."""


def tensors(split: Split) -> tuple[Tensor, Tensor]:
    """Returns all images, uint8 (N, 3, H, W), and labels of a part."""
    images = torch.stack([split.image(index) for index in range(len(split.labels))])
    return images, torch.tensor(split.labels)


def train(images: Tensor, labels: Tensor, epochs: int, seed: int) -> nn.Module:
    """Trains a small network with its view."""
    torch.manual_seed(seed)
    network = mgd.create_model("cifar_resnet8", 10)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    steps = epochs * (len(labels) // 64)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    shift, preprocess = v2.RandomCrop(TRAINED.size, padding=4), Preprocess(TRAINED)
    images = TRAINED.transform()(images)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(64)[: len(labels) // 64]:
            seen = preprocess(shift(images[batch]))
            optimizer.zero_grad()
            F.cross_entropy(network(seen), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, view: View, images: Tensor, labels: Tensor) -> float:
    """Returns the accuracy, %, of a network that is shown images in a certain way."""
    logits = network(Preprocess(view)(view.transform()(images)))
    return 100 * float((logits.argmax(1) == labels).float().mean())


def measure(rounds: int, epochs: int = 15) -> dict[str, list[float]]:
    """Returns view -> accuracy of each round, each with another network."""
    digits = load_digits()
    held_out = tensors(digits.test or digits.valid)
    found: dict[str, list[float]] = {name: [] for name in SHOWN}
    for seed in range(rounds):
        network = train(*tensors(digits.train), epochs, seed)
        for name, view in SHOWN.items():
            found[name].append(round(accuracy(network, view, *held_out), 1))
    return found


def page(text: str, found: Mapping[str, Any]) -> str:
    """Returns the page with the table of the results."""
    rows = []
    for name in SHOWN:
        figures = found["accuracy"][name]
        mean = sum(figures) / len(figures)
        rows.append([name, f"{mean:.1f} %", f"{min(figures):.1f} to {max(figures):.1f} %"])
    header = ["what the network is shown", "accuracy", f"of {found['networks']} networks"]
    return fill(text, {"wrong-views": table(header, rows).rstrip()})


def main() -> None:
    """Measures, keeps the figures, and writes them on the page."""
    options = arguments(__doc__, rounds=3)
    keep("views", COMMAND, {"networks": options.rounds, "accuracy": measure(options.rounds)})
    PAGE.write_text(page(PAGE.read_text(), kept("views")))


if __name__ == "__main__":
    main()
