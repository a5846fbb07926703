"""Times the input pipeline on 224 px crops of JPEGs, and compares it with plain torchvision.

`python -m benchmarks.loader` generates the images, or takes a folder of classes: `--jpegs FOLDER`.
"""

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.common import WALL, arguments, keep, median, ratio
from mgd.data.folder import FolderSplit
from mgd.data.loading import ImageDataset, TrainBatches, build_loader
from mgd.data.transforms import train_transform
from mgd.views import MEAN, STD, Preprocess, View

SIZE = 224
BATCH = 32
IMAGES = 384


def make_images(folder: Path) -> None:
    """Writes photograph-like JPEGs of ImageNet's usual 500x375 pixels, two classes."""
    generator = torch.Generator().manual_seed(0)
    for number in range(IMAGES):
        blobs = torch.rand(1, 3, 24, 32, generator=generator)
        smooth = torch.nn.functional.interpolate(blobs, (375, 500), mode="bicubic")
        noisy = smooth + 0.04 * torch.randn(1, 3, 375, 500, generator=generator)
        pixels = noisy[0].clamp(0, 1).mul(255).byte().permute(1, 2, 0).numpy()
        path = folder / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


def ours(folder: Path, workers: int) -> Iterable[Any]:
    """Returns the pipeline of a run, which normalises batch by batch."""
    found = ImageFolder(str(folder))
    files = found.samples[:IMAGES]
    dataset = ImageDataset(FolderSplit(files), train_transform(View(size=SIZE), "imagenet"), seed=0)
    normalize = Preprocess(View(size=SIZE))
    loader = build_loader(dataset, TrainBatches(len(files), BATCH, seed=0), workers)
    return Batches(loader, lambda batch: normalize(batch[0]))


def plain(folder: Path, workers: int) -> Iterable[Any]:
    """Returns the pipeline of torchvision's tutorial, which normalises image by image."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    dataset = torch.utils.data.Subset(ImageFolder(str(folder), transform), range(IMAGES))
    persistent = workers > 0
    return DataLoader(
        dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=persistent
    )


class Batches:
    """A loader, and a function that is applied to each of its batches."""

    def __init__(self, loader: Iterable[Any], prepare: Any):
        self.loader, self.prepare = loader, prepare

    def __iter__(self) -> Any:
        return map(self.prepare, self.loader)


def seconds_of(loader: Iterable[Any]) -> float:
    """Goes once through a loader."""
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Returns images a second of both, without workers and with two."""
    found = {}
    for workers in (0, 2):
        loaders = {"ours": ours(folder, workers), "torchvision": plain(folder, workers)}
        for loader in loaders.values():  # starts the workers
            seconds_of(loader)
        seconds: dict[str, list[float]] = {name: [] for name in loaders}
        for _ in range(rounds):
            for name, loader in loaders.items():
                seconds[name].append(seconds_of(loader))
        speeds = {name: round(IMAGES / median(seconds[name])) for name in loaders}
        speedup = ratio(seconds["torchvision"], seconds["ours"])
        found[f"{workers} workers"] = {**speeds, "ours / torchvision": speedup}
    return found


def main() -> None:
    """Measures on a folder of classes of JPEGs, or on generated ones."""
    options = arguments(__doc__, rounds=3, jpegs="BENCH_JPEGS")
    with tempfile.TemporaryDirectory() as temporary:
        source = "folder given" if options.jpegs else "generated, 500x375"
        folder = Path(options.jpegs or temporary)
        if not options.jpegs:
            make_images(folder)
        found = measure(folder, options.rounds)
    keep("loader", "python -m benchmarks.loader", {"images": source, **found}, clock=WALL)


if __name__ == "__main__":
    main()
