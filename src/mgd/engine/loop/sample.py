"""A sample of training images as the student sees them: what the augmentation makes of them."""

import torch
from torch import Tensor
from torchvision.utils import make_grid

from mgd.engine.loop.pipeline import Pipeline
from mgd.errors import InputError
from mgd.views import Preprocess, View

SAMPLE = 16
"""Images, four in a row."""


def training_sample(pipeline: Pipeline, view: View, epoch: int) -> Tensor | None:
    """Returns a picture of an epoch's first training images; None if none of them can be read.

    Args:
        pipeline: The run's data; its training batches are moved to the epoch.
        view: How the student sees an image.
        epoch: The augmentation of an image is another one in each.

    Returns:
        RGB, uint8 (3, H, W).
    """
    keys = next(iter(pipeline.train_batches.at(epoch)))[:SAMPLE]
    examples = []
    for key in keys:
        try:
            examples.append(pipeline.train.dataset[key])
        except InputError:
            continue  # whoever trains on the image will say so, with its name
    if not examples:
        return None
    images, labels = map(torch.stack, zip(*examples, strict=True))
    crops, _ = pipeline.prepare((images, labels), (epoch, 0))
    grid: Tensor = make_grid(_as_seen(crops.cpu(), view), nrow=4)
    return grid


def _as_seen(crops: Tensor, view: View) -> Tensor:
    """Returns crops (B, 3, H, W) at the network's size and in its colours, as RGB."""
    preprocess = Preprocess(view)
    seen: Tensor = preprocess(crops) * preprocess.std + preprocess.mean
    if view.colour == "BGR":
        seen = seen.flip(1)
    return seen.round().clamp(0, 255).byte().expand(-1, 3, -1, -1)
