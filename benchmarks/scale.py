"""Counts the operations, the memory and the storage that the published runs need.

`python -m benchmarks.scale` prints the tables of docs/scale.md. They are counted on the networks,
and nothing is timed: hours follow from the images per second that `make bench` measures.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mgd
from mgd.models.pairs import known_points

BATCH = 2
"""Images of a forward; all that is counted is divided by it, or is of the network."""


@dataclass(frozen=True)
class Published:
    """A row of the paper's tables."""

    name: str
    teacher: str
    student: str
    classes: int
    train: int
    valid: int
    epochs: int
    batch_size: int
    updates: int
    tracked: int


IMAGENET = Published(
    name="ImageNet-1K, MobileNet-V1",
    teacher="resnet50",
    student="mobilenet_v1",
    classes=1000,
    train=1_281_167,
    valid=50_000,
    epochs=130,
    batch_size=256,
    updates=130,
    tracked=20_000,
)
CUB = Published(
    name="CUB-200, MobileNet-V2",
    teacher="resnet50",
    student="mobilenet_v2",
    classes=200,
    train=5_994,
    valid=5_794,
    epochs=120,
    batch_size=64,
    updates=60,
    tracked=5_994,
)
RUNS = (IMAGENET, CUB, replace(CUB, name="CUB-200, ShuffleNet-V2", student="shufflenet_v2"))


def main() -> None:
    """Prints the tables in Markdown."""
    print(
        "| run | steps | images trained on | images tracked | GFLOP an image: teacher | student, "
        "forward and backward | share of tracking | whole run, PFLOP |"
    )
    print("|---|---|---|---|---|---|---|---|")
    memory = []
    for run in RUNS:
        teacher, student = (
            mgd.create_model(name, run.classes) for name in (run.teacher, run.student)
        )
        images = torch.randn(BATCH, 3, 224, 224)
        forward = [flops(network, images) / BATCH for network in (teacher, student)]
        step = forward[0] + 3 * forward[1]  # a backward is about two forwards
        trained, tracked = run.train * run.epochs, run.tracked * run.updates
        tracking = tracked * sum(forward)
        scoring = run.valid * (run.epochs * forward[1] + forward[0])
        whole = trained * step + tracking + scoring
        steps = -(-run.train // run.batch_size) * run.epochs
        print(
            f"| {run.name} | {steps:,} | {trained:,} | {tracked:,} | {forward[0] / 1e9:.1f} | "
            f"{3 * forward[1] / 1e9:.1f} | {100 * tracking / whole:.1f} % | {whole / 1e15:,.0f} |"
        )
        memory.append(memory_row(run, teacher, student, images))
    print(
        "\n| run | parameters: teacher, student | kept for backward, MB an image: student alone | "
        "with MGD-AMP | batch, GB | checkpoint, MB |\n|---|---|---|---|---|---|"
    )
    print("\n".join(memory))


def flops(network: nn.Module, images: Tensor) -> int:
    """Counts a forward's operations, a multiply and an add as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(images)
    return counter.get_total_flops()


def memory_row(run: Published, teacher: nn.Module, student: nn.Module, images: Tensor) -> str:
    """Counts what autograd keeps, and what a checkpoint holds."""
    student.train()
    alone = kept_bytes(lambda: student(images))
    pairs = known_points(run.teacher, run.student)
    with mgd.Distiller(teacher, student, images, pairs, kd_weight=1.0) as distiller:
        distiller.train()
        distiller.mark_matched()  # counting needs no better matching than the example's
        both = kept_bytes(lambda: distiller(images))
        # Weights and momentum of what is trained, and the matching's statistics.
        trained = sum(p.numel() for p in distiller.parameters() if p.requires_grad)
        state = sum(buffer.numel() * buffer.element_size() for buffer in distiller.points.buffers())
    sizes = [sum(p.numel() for p in network.parameters()) / 1e6 for network in (teacher, student)]
    return (
        f"| {run.name} | {sizes[0]:.1f} M, {sizes[1]:.1f} M | {alone / BATCH / 1e6:.0f} | "
        f"{both / BATCH / 1e6:.0f} | {both / BATCH * run.batch_size / 1e9:.1f} | "
        f"{(8 * trained + state) / 1e6:.0f} |"
    )


def kept_bytes(forward: Callable[[], Any]) -> int:
    """Returns the bytes of all tensors that a forward keeps for its backward, each once."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    del output
    return sum(storages.values())


if __name__ == "__main__":
    main()
