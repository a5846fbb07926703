"""Times a training step of a detector under a teacher over the smallest possible ones, the floors.

Both floors have the student's own training step. One has the teacher's whole forward beside it, the
other only the forward of the teacher's backbone, which is all that points at its stages need. The
points are otherwise those of the commands: stages, and levels of the pyramid behind them.

`python -m benchmarks.detector_step` measures the pair of the evidence, RetinaNets at 256 px, with
batches of 8 images of noise and random boxes. The teacher has random weights and is sure of no box,
so that none is sorted out behind its heads.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import DEVICE, Step, arguments, interleaved, keep, median, ratio
from mgd.engine.detection.building import build_detector_task
from mgd.engine.detection.detectors import Detector, Detectors
from mgd.engine.options.config import RunConfig
from mgd.models import create_detector

COMMAND = "python -m benchmarks.detector_step"
TEACHER, STUDENT = "retinanet_x0_5/resnet34", "retinanet_x0_5/resnet18"
SIZE, BATCH, BOXES, CLASSES = 256, 8, 6, ("red", "white", "platelet")
WHOLE, BACKBONE = "teacher + student", "teacher's backbone + student"
STEPS: dict[str, dict[str, Any]] = {
    "mgd": {},
    "mgd, stages alone": {"points": "backbone"},
    "mgd, weights by boxes": {"position_weights": "boxes"},
    "mgd, weights by scores": {"position_weights": "scores"},
}
"""What is trained -> the options for it."""


class Bench:
    """Makes steps, each with networks of its own that start from the same weights."""

    def __init__(
        self, teacher: str = TEACHER, student: str = STUDENT, size: int = SIZE, batch: int = BATCH
    ):
        self.names, self.size = (teacher, student), size
        dice = torch.Generator().manual_seed(0)
        self.images = [torch.rand(3, size, size, generator=dice).to(DEVICE) for _ in range(batch)]
        self.targets = [self._target(dice) for _ in range(batch)]

    def _target(self, dice: torch.Generator) -> dict[str, Tensor]:
        corners = torch.rand(BOXES, 2, generator=dice) * self.size * 0.7
        sides = (0.05 + 0.25 * torch.rand(BOXES, 2, generator=dice)) * self.size
        labels = torch.randint(1, len(CLASSES) + 1, (BOXES,), generator=dice)
        boxes = torch.cat([corners, corners + sides], 1)
        return {"boxes": boxes.to(DEVICE), "labels": labels.to(DEVICE)}

    def detectors(self) -> Detectors:
        """Returns teacher and student with random weights, always the same ones."""
        torch.manual_seed(0)
        teacher, student = (
            Detector(
                name, create_detector(name, len(CLASSES), self.size).to(DEVICE), self.size,
                "random", CLASSES,
            )
            for name in self.names
        )  # fmt: skip
        return Detectors(student, teacher)

    def floor(self, ask: Callable[[nn.Module, list[Tensor]], object]) -> Step:
        """A question to the teacher without gradients, and the student's own training step.

        Args:
            ask: Runs what there is to run of the teacher.
        """
        detectors = self.detectors()
        assert detectors.teacher is not None
        teacher, student = detectors.teacher.network, detectors.student.network
        teacher.eval().requires_grad_(False)
        optimizer = _sgd(student.train())

        def step() -> None:
            with torch.no_grad():
                ask(teacher, self.images)
            losses = student(self.images, self.targets)
            _update(optimizer, torch.stack(list(losses.values())).sum())

        return step

    def distilling(self, **options: Any) -> tuple[Step, nn.Module]:
        """A step as the trainer takes it, and what it trains.

        Args:
            options: Of the run, by the names of their fields.
        """
        teacher, student = self.names
        config = RunConfig().replace(
            teacher=teacher, arch=student, size=self.size, distiller="mgd", **options
        )
        task = build_detector_task(config, self.detectors(), self.images[:2], 1, list)
        task.distiller.mark_matched()  # type: ignore[attr-defined]  # this task has a distiller
        task.train()
        optimizer = _sgd(task.trained)

        def step() -> None:
            _, terms = task.losses(self.images, self.targets)
            _update(optimizer, torch.stack(list(terms.values())).sum() / len(self.images))

        return step, task.trained


def ask_all(teacher: nn.Module, images: list[Tensor]) -> object:
    """Runs a whole detector."""
    return teacher(images)


def ask_backbone(teacher: Any, images: list[Tensor]) -> object:
    """Runs the stages of a detector's backbone, without the pyramid behind them."""
    return teacher.backbone.body(teacher.transform(images)[0].tensors)


def _sgd(network: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 1e-4, 0.9)


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """Returns seconds of every step, and their ratios to both floors."""
    steps = {WHOLE: bench.floor(ask_all), BACKBONE: bench.floor(ask_backbone)}
    steps |= {name: bench.distilling(**options)[0] for name, options in STEPS.items()}
    seconds = interleaved(steps, rounds)
    return {
        "seconds": {name: median(values) for name, values in seconds.items()},
        **{
            f"over {floor}": {name: ratio(seconds[name], seconds[floor]) for name in STEPS}
            for floor in (WHOLE, BACKBONE)
        },
    }


def main() -> None:
    """Measures, and keeps the figures."""
    rounds = arguments(__doc__, rounds=9).rounds
    setting = f"{TEACHER} -> {STUDENT}, batches of {BATCH} images at {SIZE} px, {rounds} rounds"
    found = {"setting": setting, "device": DEVICE, **measure(Bench(), rounds)}
    keep("detector_step", COMMAND, found)


if __name__ == "__main__":
    main()
