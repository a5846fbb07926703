"""Times the matching: adding images to the channel distances, and solving the assignment.

`python -m benchmarks.matching` compares tracking, which is both networks' forwards and the channel
distances, with the two forwards alone; times the solvers; and doubles each size to see how the time
of tracking grows. The environment variable PAIRS, a part of a pair's name, limits the first of it.
"""

import os
from typing import Any

import torch

import mgd
from benchmarks.common import (
    DEVICE,
    PAIRS,
    arguments,
    interleaved,
    keep,
    kept,
    median,
    peak_memory,
    ratio,
)
from mgd.models.pairs import known_points

BATCH = 32 if DEVICE == "cuda" else 8
SIZES = ((64, 256), (128, 256), (128, 512), (256, 512), (256, 1024), (512, 1024))
SIZES += ((512, 2048), (1024, 2048), (2048, 2048))
PUBLISHED = ((128, 256), (256, 512), (512, 1024), (1024, 2048))
"""Channels of ResNet-50 -> MobileNet-V1."""


def tracking(teacher_name: str, student_name: str, rounds: int) -> dict[str, Any]:
    """Times `Distiller.observe` over the two forwards that it cannot do without."""
    torch.manual_seed(0)
    teacher = mgd.create_model(teacher_name).to(DEVICE)
    student = mgd.create_model(student_name).to(DEVICE)
    images = torch.randn(BATCH, 3, 224, 224, device=DEVICE)
    points = known_points(teacher_name, student_name)
    distiller = mgd.Distiller(teacher, student, images[:2], points).eval()

    @torch.no_grad()
    def forwards() -> None:
        teacher(images)
        student(images)

    steps = {"forwards": forwards, "tracking": lambda: distiller.observe(images)}
    seconds = interleaved(steps, rounds)
    state = [*teacher.state_dict().values(), *distiller.state_dict().values(), images]
    memory = {name: peak_memory(step, state) for name, step in steps.items()}
    return {
        "seconds an image": {name: median(t / BATCH for t in seconds[name]) for name in steps},
        "tracking / forwards": ratio(seconds["tracking"], seconds["forwards"]),
        "megabytes": memory,
    }


def solving(rounds: int) -> dict[str, dict[str, float]]:
    """Times the assignment of T // S teacher channels to each student channel, seconds."""
    found: dict[str, dict[str, float]] = {}
    for student, teacher in SIZES:
        maps = torch.randn(teacher, 49, generator=torch.Generator().manual_seed(teacher))
        distance = mgd.channel_distance(maps[None, :student, :, None].abs(), maps[None, ..., None])
        steps = {
            name: lambda name=name, distance=distance, groups=teacher // student: mgd.assign(
                distance, groups, name
            )
            for name in ("scipy", "ortools")
        }
        seconds = interleaved(steps, max(1, rounds // 3))
        found[f"{student}x{teacher}"] = {name: median(seconds[name]) for name in steps}
    return found


def growth(rounds: int) -> dict[str, float]:
    """Times tracking with S, T, H·W and the batch doubled, over the time without; linear is 2."""

    def update(student: int, teacher: int, side: tuple[int, int], batch: int) -> Any:
        matcher = mgd.ChannelMatcher(student, teacher, mgd.REDUCERS["amp"]).to(DEVICE)
        features = [torch.randn(batch, n, *side, device=DEVICE) for n in (student, teacher)]
        return lambda: matcher.update(*features)

    steps = {
        "once": update(512, 1024, (28, 28), 8),
        "S": update(1024, 1024, (28, 28), 8),
        "T": update(512, 2048, (28, 28), 8),
        "H·W": update(512, 1024, (28, 56), 8),
        "images": update(512, 1024, (28, 28), 16),
    }
    seconds = interleaved(steps, rounds)
    return {name: ratio(seconds[name], seconds["once"]) for name in steps if name != "once"}


def main() -> None:
    """Measures all three."""
    chosen = os.environ.get("PAIRS", "")
    rounds = arguments(__doc__, rounds=7).rounds
    solve = solving(rounds)
    published = {
        name: round(sum(solve[f"{s}x{t}"][name] for s, t in PUBLISHED), 3)
        for name in solve["64x256"]
    }
    pairs = {name: tracking(*PAIRS[name], rounds) for name in PAIRS if chosen in name}
    if chosen:  # beside what was measured of the others
        pairs = {**kept("matching").get("tracking", {}), **pairs}
    found = {
        "device": DEVICE,
        "tracking": pairs,
        "solve": solve,
        "solve, four points of resnet50 -> mobilenet_v1": published,
        "growth when doubled": growth(rounds),
    }
    keep("matching", "python -m benchmarks.matching", found)


if __name__ == "__main__":
    main()
