"""Times a training step of each published pair over the smallest possible one, the floor.

The floor is the teacher's forward without gradients and the student's own training step. The
distilled steps are made from options, by the functions that a run uses.

`python -m benchmarks.step` measures the four published pairs at 224 px, with batches of 8 images on
a CPU and of 128 on a GPU. The environment variable PAIRS, a part of a pair's name, limits the
pairs. COMPILED=0 leaves out the compiled steps, which take minutes to compile.
"""

import os
from typing import Any

import torch
from torch import Tensor, nn

import mgd
from benchmarks.common import (
    DEVICE,
    PAIRS,
    Step,
    arguments,
    interleaved,
    keep,
    kept,
    median,
    peak_memory,
    ratio,
    state_of,
)
from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.building import build_distiller
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.classifiers import Classifiers
from mgd.engine.tasks.distillation import DistillationTask
from mgd.engine.tasks.label_term import LabelTerm
from mgd.views import View

BATCH = 128 if DEVICE == "cuda" else 8
SIZE, CLASSES = 224, 1000
# Without instructions for it, as AVX-512 has them, a CPU emulates bf16, and is slower for it.
BF16 = DEVICE == "cuda" or torch.backends.cpu.get_cpu_capability() == "AVX512"

KD = {"distiller": "kd"}
MGD = {"distiller": "mgd"}
MGD_AND_KD = {"distiller": "mgd", "mgd_with_kd": 1}
FLAGS: dict[str, dict[str, Any]] = {
    "fold_teacher": {"fold_teacher": 1},
    "channels_last": {"channels_last": True},
    "compile": {"compile": True},
    "teacher_bf16": {"teacher_precision": "bf16"},
    "bf16": {"precision": "bf16"},
}
"""Options that change how fast the networks run, by the name that the tables show."""
FLAGS = {name: options for name, options in FLAGS.items() if BF16 or "bf16" not in name}
FAST = {key: value for options in FLAGS.values() for key, value in options.items()}
"""All of them together; see `benchmarks.flags`."""


class Bench:
    """Makes steps of one pair, each with networks of its own that start from the same weights."""

    def __init__(self, teacher: str, student: str, batch: int = BATCH, size: int = SIZE):
        self.config = RunConfig().replace(teacher=teacher, arch=student, fold_teacher=0, **KD)
        torch.manual_seed(0)
        self.images = torch.randn(batch, 3, size, size, device=DEVICE)
        self.labels = torch.randint(CLASSES, (batch,), device=DEVICE)
        self.states: dict[str, tuple[Any, ...]] = {}

    def networks(self, config: RunConfig) -> tuple[nn.Module, nn.Module]:
        """Returns teacher and student with random weights, always the same ones."""
        torch.manual_seed(0)
        layout = torch.channels_last if config.devices.channels_last else torch.preserve_format
        names = (config.teacher_name, config.networks.arch)
        teacher, student = (mgd.create_model(name, CLASSES).to(DEVICE) for name in names)
        return teacher.to(memory_format=layout), student.to(memory_format=layout)

    def floor(self) -> Step:
        """The teacher's forward without gradients and the student's own training step."""
        teacher, student = self.networks(self.config)
        teacher.eval().requires_grad_(False)
        optimizer = _sgd(student.train())

        def step() -> None:
            with torch.no_grad():
                teacher(self.images)
            _update(optimizer, LabelTerm().loss(student(self.images), self.labels).mean())

        return step

    def distilling(self, name: str, **options: Any) -> Step:
        """A step as the trainer takes it.

        Args:
            name: Under which `states` has all that outlives the step.
            options: Of the run, by the names of their fields; `fold_teacher` is off by default.
        """
        config = self.config.replace(**options)
        teacher, student = self.networks(config)
        layout = torch.channels_last if config.devices.channels_last else torch.preserve_format
        images = self.images.contiguous(memory_format=layout)
        distiller = build_distiller(config, teacher, student, images[:2])
        distiller.mark_matched()  # the matching of two images is as fast as that of 20 000
        task = DistillationTask(
            distiller, _classifiers(teacher, student), config, num_steps=1, images=list
        )
        task.train()
        optimizer = _sgd(task.trained)
        self.states[name] = (optimizer, task.trained, teacher)
        is_bf16 = config.devices.precision == "bf16"

        def step() -> None:
            with torch.autocast(DEVICE, torch.bfloat16, enabled=is_bf16):
                _, terms = task.losses(images, self.labels)
            _update(optimizer, torch.stack(list(terms.values())).sum() / len(images))

        return step


def _classifiers(teacher: nn.Module, student: nn.Module) -> Classifiers:
    """Returns what a task has to know of the two networks besides."""
    both = [
        Classifier(name, network, View(), weights="random", view_from="not used")
        for name, network in (("teacher", teacher), ("student", student))
    ]
    return Classifiers(teacher=both[0], student=both[1], classes=tuple(map(str, range(CLASSES))))


def _sgd(network: nn.Module) -> torch.optim.SGD:
    parameters = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.SGD(parameters, 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def measure(teacher: str, student: str, rounds: int, compiled: bool) -> dict[str, Any]:
    """Returns seconds, ratios and peak memory of one pair's steps."""
    bench = Bench(teacher, student)
    steps = {
        "floor": bench.floor(),
        "kd": bench.distilling("kd", **KD),
        "mgd": bench.distilling("mgd", **MGD),
        "mgd+kd": bench.distilling("mgd+kd", **MGD_AND_KD),
    }
    if compiled:
        steps["kd, fast"] = bench.distilling("kd, fast", **KD, **FAST)
        steps["mgd+kd, fast"] = bench.distilling("mgd+kd, fast", **MGD_AND_KD, **FAST)
    seconds = interleaved(steps, rounds)
    compared = [("mgd", "floor"), ("mgd+kd", "kd")]
    if compiled:
        compared += [("mgd+kd, fast", "kd"), ("mgd+kd, fast", "kd, fast")]
    found: dict[str, Any] = {
        "batch": BATCH,
        "size": SIZE,
        "rounds": rounds,
        "seconds": {name: median(values) for name, values in seconds.items()},
        **{f"{one} / {other}": ratio(seconds[one], seconds[other]) for one, other in compared},
    }
    memory = {
        name: peak_memory(steps[name], state_of(*bench.states[name])) for name in ("kd", "mgd")
    }
    return {**found, "megabytes": memory, "memory": round(memory["mgd"] / memory["kd"], 3)}


def main() -> None:
    """Measures every pair; compiles the one that the target names."""
    chosen, compiled = os.environ.get("PAIRS", ""), os.environ.get("COMPILED", "1") == "1"
    rounds = arguments(__doc__, rounds=7).rounds
    pairs = {
        name: measure(*pair, rounds, compiled=compiled and pair[1] == "mobilenet_v2_eccv")
        for name, pair in PAIRS.items()
        if chosen in name
    }
    if chosen:  # beside what was measured of the others
        pairs = {**kept("step").get("pairs", {}), **pairs}
    keep("step", "python -m benchmarks.step", {"device": DEVICE, "pairs": pairs})


if __name__ == "__main__":
    main()
