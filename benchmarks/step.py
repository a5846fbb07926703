"""Times a training step over the floor: the teacher's forward and the student's own step.

`python -m benchmarks.step` measures the four published pairs at 224 px, batch 8 on a CPU and 128
on a GPU; the variable PAIRS, a part of a name, limits it,
and COMPILED=0 leaves out what takes minutes to compile.
"""

import copy
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
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
from mgd.engine.tasks.folding import fold_batch_norms
from mgd.engine.tasks.networks import compile_networks
from mgd.engine.tasks.objective import Objective
from mgd.models.pairs import known_points

BATCH = 128 if DEVICE == "cuda" else 8
SIZE = 224
# Without instructions for it, as AVX-512 has them, a CPU emulates bf16, and is slower for it.
BF16 = DEVICE == "cuda" or torch.backends.cpu.get_cpu_capability() == "AVX512"


@dataclass(frozen=True)
class Flags:
    """Those of the command line that change how fast the networks run; none is on."""

    fold_teacher: bool = False
    channels_last: bool = False
    compile: bool = False
    teacher_bf16: bool = False
    bf16: bool = False


FAST = Flags(fold_teacher=True, channels_last=True, compile=True, teacher_bf16=BF16, bf16=BF16)
"""All that the device has instructions for; see `benchmarks.flags`."""


class Bench:
    """Steps of one pair; each has a student of its own and shares the teacher."""

    def __init__(self, teacher: str, student: str):
        torch.manual_seed(0)
        self.points = known_points(teacher, student)
        self.teacher = mgd.create_model(teacher).to(DEVICE).eval().requires_grad_(False)
        self.student = mgd.create_model(student).to(DEVICE)
        self.images = torch.randn(BATCH, 3, SIZE, SIZE, device=DEVICE)
        self.labels = torch.randint(1000, (BATCH,), device=DEVICE)
        self.states: dict[str, Any] = {}

    def floor(self) -> Step:
        """The teacher's forward without gradients and the student's own training step."""
        student = copy.deepcopy(self.student)
        optimizer = _sgd(student)

        def step() -> None:
            with torch.no_grad():
                self.teacher(self.images)
            _update(optimizer, F.cross_entropy(student(self.images), self.labels))

        return step

    def distilling(self, name: str, points: Any, kd: bool, flags: Flags = Flags()) -> Step:
        """A step as the trainer takes it, with these flags alone."""
        layout = torch.channels_last if flags.channels_last else torch.preserve_format
        teacher, student = (copy.deepcopy(network) for network in (self.teacher, self.student))
        teacher.to(memory_format=layout)
        student.to(memory_format=layout)
        images = self.images.contiguous(memory_format=layout)
        distiller = mgd.Distiller(
            teacher,
            student,
            points=points,
            example=images[:2],
            kd_temperature=1.5 if kd else None,
        )
        distiller.matching_is_solved = True
        if flags.fold_teacher:
            taps = [point.pair.teacher for point in distiller.iter_points()]
            fold_batch_norms(teacher, images[:2], taps)
        if flags.teacher_bf16:
            distiller.teacher_precision = torch.bfloat16
        if flags.compile:
            compile_networks(distiller)
        options = RunConfig().replace(distiller="mgd" if points else "kd").distillation
        objective = Objective(distiller, options).train()
        optimizer = _sgd(objective)
        self.states[name] = (optimizer, objective, teacher)

        def step() -> None:
            with torch.autocast(DEVICE, torch.bfloat16, enabled=flags.bf16):
                _, terms = objective(images, self.labels)
            _update(optimizer, torch.stack(list(terms.values())).sum() / BATCH)

        return step


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
        "kd": bench.distilling("kd", (), kd=True),
        "mgd": bench.distilling("mgd", bench.points, kd=False),
        "mgd+kd": bench.distilling("mgd+kd", bench.points, kd=True),
    }
    if compiled:
        steps["kd, fast"] = bench.distilling("kd, fast", (), kd=True, flags=FAST)
        steps["mgd+kd, fast"] = bench.distilling("mgd+kd, fast", bench.points, kd=True, flags=FAST)
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
