"""Predictions: the most likely classes of images, by a trained network from a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mgd.data.decode import BitDepth
from mgd.data.folder import FolderSplit
from mgd.data.loading import EvalBatches, ImageDataset, build_loader
from mgd.engine.loop.batches import batches_of
from mgd.engine.loop.workers import telling_of_dead_workers
from mgd.engine.tasks.trained import file_of, load_trained
from mgd.errors import InputError
from mgd.inside import logits_of
from mgd.models import Metadata, assume_metadata
from mgd.views import Preprocess


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one image, the likeliest first."""

    image: str
    """Path of its file."""
    classes: tuple[tuple[str, float], ...]
    """Name and probability, from 0 to 1."""


def predict(
    files: Sequence[str],
    model: str | Path,
    arch: str = "",
    *,
    top_k: int = 5,
    batch_size: int = 64,
    workers: int = 0,
    bit_depth: BitDepth = "auto",
) -> Iterator[Prediction]:
    """Yields the most likely classes of each image, in the order of the files.

    Each image is shown as the network's file says. Probabilities are the softmax of the outputs.

    Args:
        files: Image files.
        model: A run folder, whose student is taken; or a file as in `mgd.load_network`.
        arch: The network, where the file does not tell it.
        top_k: How many classes, at least 1; all, where there are fewer.
        batch_size: Images at a time.
        workers: Processes that read images; 0 reads in this one.
        bit_depth: How many bits the grey values in 16-bit files have; see `mgd.data.decode`.

    Raises:
        InputError: For a file that cannot be read.
    """
    path = file_of(Path(model))
    network, metadata = load_trained(path, arch)
    metadata = metadata or assume_metadata(arch or str(path), path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    view = metadata.view
    shown = nn.Sequential(Preprocess(view), network).to(device)
    dataset = ImageDataset(
        FolderSplit([(file, -1) for file in files], bit_depth), view.transform(), 0
    )
    loader = build_loader(dataset, EvalBatches(len(files), batch_size), workers)
    remaining = iter(files)
    with telling_of_dead_workers():
        for images, _ in batches_of(loader):
            for likeliest in _likeliest(shown, images.to(device), top_k, metadata, str(path)):
                named = ((_name(metadata, place), value) for place, value in likeliest)
                yield Prediction(next(remaining), tuple(named))


@torch.inference_mode()
def _likeliest(
    network: nn.Module, images: Tensor, top_k: int, metadata: Metadata, source: str
) -> list[list[tuple[int, float]]]:
    """Returns the (class, probability) pairs of each image, the likeliest first.

    A file without names of classes has `num_classes` 0.
    """
    logits = logits_of(network(images)).float()
    if logits.dim() != 2:
        raise InputError(f"'{source}' gives outputs {tuple(logits.shape)}, no scores of classes")
    if metadata.classes and len(metadata.classes) != logits.shape[1]:
        raise InputError(
            f"'{source}' names {len(metadata.classes)} classes, but has {logits.shape[1]} outputs; "
            "export it again"
        )
    found = logits.softmax(1).topk(min(top_k, logits.shape[1]))
    rows = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    return [list(zip(places, values, strict=True)) for places, values in rows]


def _name(metadata: Metadata, place: int) -> str:
    return metadata.classes[place] if metadata.classes else str(place)
