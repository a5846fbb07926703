"""Comparisons: what networks cost and how accurate they are, as JSON and as a table in CSV."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgd.runfolder import names
from mgd.runfolder.writing import write_table, write_whole


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long a network takes for a batch of images, in milliseconds."""

    batch: int
    """Images."""
    median: float
    low: float
    """Lower quartile."""
    high: float
    """Upper quartile."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network costs."""

    parameters: int | None
    """None where a file does not tell."""
    multiply_adds: int | None
    """For one image; None where the network's operations cannot be seen."""
    file_bytes: int
    """Of the file of weights, or of the safetensors file that they would make."""
    size: int
    """Height and width of the images, in pixels."""
    classes: int
    latencies: tuple[Latency, ...]
    """One for each size of a batch."""


@dataclass(frozen=True, kw_only=True)
class ComparedNetwork:
    """A network of a comparison; runs that differ in their seed alone are one."""

    name: str
    """Unique in the comparison."""
    arch: str
    source: str
    """The file that was measured; empty for a network by name, which has random weights."""
    is_teacher: bool
    """Whether it teaches another one of the comparison."""
    cost: Cost | None
    """None for a network that cannot be built."""
    accuracies: tuple[float, ...] = ()
    """Top-1 in percent, one for each run that knows it; equal ones are one."""
    images: str = ""
    """The images that the accuracies are on."""
    is_agreement: bool = False
    """Whether they are agreement with the teacher, and no accuracies."""

    @property
    def accuracy(self) -> float | None:
        """Mean over the runs; None where no run knows it."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over the runs; None for fewer than two."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Networks side by side, measured in one process."""

    networks: list[ComparedNetwork]
    device: str
    threads: int
    """Of torch's operations on the CPU."""
    rounds: int
    """Times that each network was timed."""
    torch: str
    """Version."""


def write_comparison(folder: Path, comparison: Comparison) -> list[Path]:
    """Writes a comparison into an existing folder, in place of an earlier one.

    Returns:
        The files.

    Raises:
        RunError: If a file cannot be written.
    """
    text = json.dumps(asdict(comparison), indent=1).encode()
    path, table = folder / names.COMPARISON, folder / names.COMPARISON_TABLE
    write_whole(path, lambda file: file.write(text))
    rows = [dict(_cells(each)) for each in comparison.networks]
    columns = dict.fromkeys(column for row in rows for column in row)
    write_table(table, list(columns), rows)
    return [path, table]


def _cells(network: ComparedNetwork) -> Iterator[tuple[str, Any]]:
    """Yields a row's values by column; accuracies in percent, latencies in milliseconds."""
    yield from (("name", network.name), ("arch", network.arch), ("source", network.source))
    yield "is_teacher", int(network.is_teacher)
    yield from (("top1", network.accuracy), ("top1_sd", network.spread))
    yield from (("runs", len(network.accuracies)), ("images", network.images))
    yield "is_agreement", int(network.is_agreement)
    if network.cost is None:
        return
    for name in ("parameters", "multiply_adds", "file_bytes", "size", "classes"):
        yield name, getattr(network.cost, name)
    for each in network.cost.latencies:
        for name in ("median", "low", "high"):
            yield f"batch{each.batch}_{name}_ms", getattr(each, name)
