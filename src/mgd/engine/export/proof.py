"""Proof of an exported file: the same real images, in PyTorch and in the file's own runtime."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mgd.data.check import Watch, unwatched
from mgd.engine.compare import Clock, latency_of, time_side_by_side
from mgd.engine.export.images import Images
from mgd.engine.tasks.trained import load_trained
from mgd.errors import InputError
from mgd.inside import logits_of
from mgd.runfolder import Latency

_RUNTIMES = {".onnx": "ONNX Runtime", ".pt2": "torch.export"}
_ROUNDS = 10


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a network costs in one runtime."""

    file: Path
    runtime: str
    latency: Latency
    """Of one image."""
    file_bytes: int


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How a file's answers compare with those of the network in PyTorch."""

    source: str
    """Name of the data."""
    images: int
    labelled: int
    """Images of which the class is known."""
    difference: float
    """Largest of the logits' differences; NaN if the file gives what is no number."""
    scale: float
    """Largest magnitude of the logits in PyTorch."""
    agreeing: int
    """Images with the same answer."""
    networks: tuple[Measured, ...]
    """The one in PyTorch first, the file last."""
    right: tuple[int, ...]
    """Images whose answer is their label, of each network."""

    @property
    def relative(self) -> float:
        """The difference as a share of the scale."""
        return self.difference / self.scale if self.scale else self.difference

    @property
    def agreement(self) -> float:
        """Share of the images with the same answer, 0 to 1."""
        return self.agreeing / self.images


@torch.inference_mode()
def prove(
    network: nn.Module,
    source: Path,
    files: Sequence[Path],
    images: Images,
    arch: str = "",
    *,
    watch: Watch = unwatched,
    clock: Clock = time.perf_counter,
) -> Proof:
    """Runs a network and the files that it was written to on the same images.

    Each file is read anew, as its reader would: an ONNX file by ONNX Runtime, a `.pt2` by torch,
    weights into a new network.

    Args:
        network: In eval mode, on the CPU.
        source: The file that it comes from.
        files: The last is proven; those before are measured beside it.
        images: At least one.
        arch: The network of files that hold weights alone.
        watch: Passes on the batches.
        clock: Returns the time in seconds.

    Raises:
        InputError: If a file cannot be run, or the network gives no finite logits.
    """
    networks = [network, *(load_trained(file, arch)[0] for file in files)]
    (expected, *others), one = _logits(networks, watch(images, images.batches))
    if not expected.isfinite().all():
        raise InputError(
            f"the network of '{source}' gives logits on real images that are no finite numbers; "
            "train it again, or write it as it is with --no-proof"
        )
    steps = [partial(each, one) for each in networks]
    labels = torch.tensor(images.split.labels)
    answers = [logits.argmax(1) for logits in (expected, *others)]
    return Proof(
        source=images.source,
        images=len(images),
        labelled=int((labels >= 0).sum()),
        difference=float((others[-1] - expected).abs().max()),
        scale=float(expected.abs().max()),
        agreeing=int((answers[-1] == answers[0]).sum()),
        networks=measured_side_by_side((source, *files), steps, clock),
        right=tuple(int((answer == labels).sum()) for answer in answers),
    )


def measured_side_by_side(
    files: Sequence[Path], steps: Sequence[Callable[[], object]], clock: Clock
) -> tuple[Measured, ...]:
    """Measures what networks cost.

    Args:
        files: Of each network.
        steps: Run each network on one image.
        clock: Returns the time in seconds.
    """
    return tuple(
        Measured(
            file=file,
            runtime=_RUNTIMES.get(file.suffix, "PyTorch"),
            latency=latency_of(1, times),
            file_bytes=file.stat().st_size,
        )
        for file, times in zip(files, time_side_by_side(steps, _ROUNDS, clock), strict=True)
    )


def _logits(
    networks: Sequence[nn.Module], batches: Iterable[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Returns the logits (N, K) of each network on the same images, and the first image."""
    found: list[list[Tensor]] = [[] for _ in networks]
    firsts = []
    for batch in batches:
        firsts.append(batch[:1])
        for each, logits in zip(networks, found, strict=True):
            logits.append(logits_of(each(batch)).float())
    return [torch.cat(parts) for parts in found], firsts[0]


def check_difference(proof: Proof, path: Path, most: float) -> None:
    """Checks that a file's logits are those of the network, but for rounding.

    Args:
        proof: Of the file.
        path: Where the file was to be.
        most: Largest difference, as a share of the scale.

    Raises:
        InputError: If they are not.
    """
    if not proof.relative <= most:  # also where it is NaN
        raise InputError(
            f"'{path}' is not kept: its logits differ by up to {_short(proof.difference)} from "
            f"those in PyTorch, {_short(proof.relative)} of the largest, and --tolerance is "
            f"{most:g} ({_agreeing(proof)}); choose another --format, or a larger --tolerance if "
            "this is near enough"
        )


def check_int8(proof: Proof, path: Path, least: float) -> None:
    """Checks that a quantised file answers as the network.

    Args:
        proof: Of the file.
        path: Where the file was to be.
        least: Least share of the same answers.

    Raises:
        InputError: If it does not.
    """
    if not (proof.agreement >= least and math.isfinite(proof.difference)):
        raise InputError(
            f"'{path}' is not kept: in int8 it has {_agreeing(proof)}, and --least-agreement is "
            f"{least:g}; give more --calibration-images, a lower --least-agreement, or leave out "
            "--int8"
        )


def _agreeing(proof: Proof) -> str:
    return f"the same top-1 answer on {proof.agreeing} of {proof.images} images"


def _short(value: float) -> str:
    return f"{value:.2g}"
