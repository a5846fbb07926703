"""Draws the picture of docs/augmentation.md: what the flags do to images, by the real transforms.

`python -m docs.make_augmentation_figure DATA` takes some validation images of a data folder, or of
the digits of scikit-learn.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from docs.make_figures import IMAGES, Row, draw_rows
from torch import Tensor

import mgd
from mgd.data import load_splits
from mgd.data.loading import ImageDataset
from mgd.data.mixing import BatchMixing
from mgd.data.splits import TensorSplit
from mgd.data.transforms import train_transform
from mgd.report.theme import to_png

PER_IMAGE: dict[str, tuple[Any, ...]] = {
    "--augment cifar": ("cifar",),
    "--auto-augment\nta_wide": ("none", "ta_wide"),
    "--auto-augment\nra": ("none", "ra"),
    "--auto-augment\naugmix": ("none", "augmix"),
    "--auto-augment\nimagenet": ("none", "imagenet"),
    "--random-erase 1": ("none", "none", 1.0),
}
"""Rows and the arguments of `train_transform` behind the view."""
PER_BATCH = {"--mixup-alpha 1": {"mixup_alpha": 1.0}, "--cutmix-alpha 1": {"cutmix_alpha": 1.0}}
SEED, STEP = 3, 0


def some_images(data: str, size: int) -> Tensor:
    """Returns validation images from all over a data set, uint8 (N, 3, size, size)."""
    valid = load_splits(data).valid
    chosen = [(2 * n + 1) * len(valid) // (2 * IMAGES) for n in range(IMAGES)]
    show = mgd.View(size=size, crop="squash", crop_pct=1.0).transform()
    return torch.stack([show(valid.image(index)) for index in chosen])


def rows_of(images: Tensor) -> list[Row]:
    """Returns the images, and below what each flag makes of them."""
    view = mgd.View(size=images.shape[-1], crop="squash", crop_pct=1.0)
    rows = {"the images": images}
    for label, options in PER_IMAGE.items():
        split = TensorSplit(images, [0] * len(images))
        changed = ImageDataset(split, train_transform(view, *options), SEED)
        rows[label] = torch.stack([changed[(0, index)][0] for index in range(len(images))])
    labels = torch.arange(len(images))
    for label, alphas in PER_BATCH.items():
        mixed, _ = BatchMixing(len(images), SEED, **alphas)((images, labels), epoch=0, step=STEP)
        rows[label] = (255 * mixed).round().byte()
    return [(label, seen.permute(0, 2, 3, 1).numpy()) for label, seen in rows.items()]


def main() -> None:
    """Draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder with train and valid, or digits")
    parser.add_argument("--size", type=int, default=32, help="side of the images, in pixels")
    parser.add_argument("--out", type=Path, default=Path("docs/images/augmentation.png"))
    given = parser.parse_args()
    rows = rows_of(some_images(given.data, given.size))
    given.out.write_bytes(to_png(lambda colours: draw_rows(colours, rows)))


if __name__ == "__main__":
    main()
