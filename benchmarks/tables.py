"""Writes `benchmarks/README.md`, and the targets in `docs/speed.md`, from `results.json`.

Run it as `python -m benchmarks.tables`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.common import RESULTS, fill, on_gpu
from benchmarks.targets import targets

HEAD = """# Benchmarks

This page has the times and the memory that were measured, with the command and the machine of each
table. Read it for the exact figures. [docs/speed.md](../docs/speed.md) says what they mean, and
compares them with their targets.

`make bench` runs all of these commands and writes this page from `results.json`.

- A ratio is the median of the ratios of the rounds. In a round, all variants are run in turn.
- `BENCH_CIFAR` is a folder with CIFAR-10, `BENCH_WEIGHTS` a file with the weights of its teacher.
  Without them, what needs CIFAR-10 is skipped.
- `BENCH_JPEGS` is a folder with JPEGs. Without it, some are generated.
- `BENCH_CPU_TIME=1` measures the CPU time of one thread, which changes little when the machine does
  other work. The input pipeline and the epoch are always measured in wall-clock time.
"""
PAGE = RESULTS.with_name("README.md")
SPEED = RESULTS.parent.parent / "docs" / "speed.md"
TITLES = {
    "step": "A training step over the floor",
    "adapter": "A training step with an adapter",
    "detector_step": "A detector's training step over both floors",
    "flags": "Cheaper networks",
    "matching": "Tracking and solving",
    "online": "Online tracking compared with a pass",
    "loader": "Input pipeline",
    "epoch": "An epoch on CIFAR-10",
}


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def step(found: Any) -> str:
    """One row per pair."""
    names = ("mgd / floor", "mgd+kd / kd", "mgd+kd, fast / kd", "mgd+kd, fast / kd, fast")
    rows = []
    for pair, values in found["pairs"].items():
        seconds = values["seconds"]
        times = " / ".join(str(seconds[name]) for name in ("floor", "kd", "mgd", "mgd+kd"))
        ratios = [values.get(name, "-") for name in names]
        rows.append([pair, values["batch"], times, *ratios, values["memory"]])
    header = [
        *("pair", "batch", "s: floor / KD / MGD / MGD+KD", "MGD / floor", "MGD+KD / KD"),
        *("all flags / KD", "both with them", "memory MGD / KD"),
    ]
    return table(header, rows)


def adapter(found: Any) -> str:
    """One row per pair."""
    rows = []
    for pair, values in found["pairs"].items():
        seconds, ratios = values["seconds"].values(), values["over the floor"].values()
        rows.append([pair, values["rounds"], " / ".join(map(str, seconds)), *ratios])
    names = ("MGD", "MGD adapter", "OFD", "MGD adapter on 64 positions")
    header = ["pair", "rounds", f"s: floor / {' / '.join(names)}"]
    header += [f"{name} / floor" for name in names]
    return f"{found['setting']}.\n\n" + table(header, rows)


def detector_step(found: Any) -> str:
    """One row per step."""
    ratios = {name: over for name, over in found.items() if name.startswith("over ")}
    rows = [
        [name, seconds, *(over.get(name, "-") for over in ratios.values())]
        for name, seconds in found["seconds"].items()
    ]
    return f"{found['setting']}.\n\n" + table(["step", "s", *ratios], rows)


def flags(found: Any) -> str:
    """One row per set of flags."""
    slowest_first = sorted(found["ratio"], key=found["ratio"].__getitem__, reverse=True)
    rows = [[name, found["seconds"][name], found["ratio"][name]] for name in slowest_first]
    return f"KD step, {found['setting']}.\n\n" + table(["flags", "s", "over none"], rows)


def matching(found: Any) -> str:
    """Three tables: tracking of each pair, solving of each size, and how tracking grows."""
    tracked = [
        [
            pair,
            *values["seconds an image"].values(),
            values["tracking / forwards"],
            *values["megabytes"].values(),
        ]
        for pair, values in found["tracking"].items()
    ]
    header = ["pair", "forwards, s an image", "tracking, s an image", "ratio", "MB", "MB, tracking"]
    by_size = sorted(found["solve"].items(), key=lambda item: tuple(map(int, item[0].split("x"))))
    sizes = {**dict(by_size), "four points of ResNet-50 -> MobileNet-V1": {}}
    sizes["four points of ResNet-50 -> MobileNet-V1"] = found[
        "solve, four points of resnet50 -> mobilenet_v1"
    ]
    solvers = list(next(iter(sizes.values())))
    solved = [[size, *(times[name] for name in solvers)] for size, times in sizes.items()]
    growth = found["growth when doubled"]
    return "\n".join(
        [
            table(header, tracked),
            table(["channels", *(f"{name}, s" for name in solvers)], solved),
            table(["doubled", *growth], [["time of an update", *growth.values()]]),
        ]
    )


def online(found: Any) -> str:
    """One row per epoch; a cell with several values has one per point."""
    columns = ("epoch", "equal", "cost online", "cost pass", "seconds online", "seconds pass")
    rows = [
        [
            " / ".join(map(str, row[column])) if isinstance(row[column], list) else row[column]
            for column in columns
        ]
        for row in found["rows"]
    ]
    note = "*seconds online* is the time to solve; tracking itself is part of the training steps."
    return f"{found['setting']}; {note}\n\n" + table(columns, rows)


def loader(found: Any) -> str:
    """One row per number of workers."""
    columns = ("ours", "torchvision", "ours / torchvision")
    rows = [
        [name, *(values[column] for column in columns)]
        for name, values in found.items()
        if "workers" in name
    ]
    header = ["", "this package, images/s", "torchvision, images/s", "ratio"]
    return f"JPEGs: {found['images']}.\n\n" + table(header, rows)


def epoch(found: Any) -> str:
    """One row per way to train."""
    rows = [
        [
            name,
            row["training"],
            row.get("waiting for data", "-"),
            row.get("all, with validation and updates", "-"),
            found["training / bare"][name],
        ]
        for name, row in found["seconds"].items()
    ]
    header = ["", "training, s", "share waiting for data", "whole epoch, s", "training / bare"]
    return f"{found['setting']}.\n\n" + table(header, rows)


def page(results: dict[str, Any]) -> str:
    """Returns the whole page."""
    parts = [HEAD]
    for write in (step, adapter, detector_step, flags, matching, online, loader, epoch):
        name = write.__name__
        parts.append(f"## {TITLES[name]}\n")
        measured = [results[key] for key in (name, on_gpu(name)) if key in results]
        for found in measured:
            where = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
            parts += [f"`{found['command']}`; {where}.\n", write(found)]
        if len(measured) < 2:
            parts.append("On a GPU: not measured.\n" if measured else "Not measured.\n")
    return "\n".join(parts)


def speed_page(text: str, results: dict[str, Any]) -> str:
    """Returns `docs/speed.md` with its table of targets made anew."""
    rows = [
        [what, most, "not measured", ""]
        if measured is None
        else [what, most, measured, "yes" if measured <= most else "**no**"]
        for what, most, measured in targets(results)
    ]
    return fill(text, {"targets": table(["figure", "at most", "measured", "held"], rows).rstrip()})


def main() -> None:
    """Writes both pages."""
    results = json.loads(RESULTS.read_text())
    PAGE.write_text(page(results))
    SPEED.write_text(speed_page(SPEED.read_text(), results))


if __name__ == "__main__":
    main()
