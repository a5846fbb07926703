"""Evaluations of detectors: what a measurement found, in a folder of its own."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgd.runfolder import names
from mgd.runfolder.writing import write_whole


@dataclass(frozen=True, kw_only=True)
class MeasuredDetector:
    """What one detector came to. Precisions are in percent."""

    role: str
    """"student" or "teacher"."""
    arch: str
    weights: str
    """The file that was measured, or what else its weights are."""
    sha256: str
    """Of that file; empty where there is none."""
    size: int
    """Pixels of the longer side of the images that it saw."""
    map: float
    map_50: float
    map_75: float
    per_class: Mapping[str, float]
    """`map` of each class; NaN of one that is on no image."""
    images: int

    def to_plain(self) -> dict[str, Any]:
        """Returns the figures as JSON has them."""
        known = {name: None if math.isnan(v) else v for name, v in self.per_class.items()}
        return {**asdict(self), "per_class": known}


def is_detection(folder: Path) -> bool:
    """Tells whether a folder holds an evaluation of detectors."""
    return (folder / names.DETECTION).is_file()


def write_detection(folder: Path, data: str, networks: Sequence[MeasuredDetector]) -> None:
    """Writes what an evaluation of detectors found.

    Args:
        folder: Is there.
        data: Whose validation images were measured on.
        networks: What each came to.

    Raises:
        RunError: If the file cannot be written.
    """
    plain = {"data": data, "detectors": [each.to_plain() for each in networks]}
    text = json.dumps(plain, indent=1).encode()
    write_whole(folder / names.DETECTION, lambda file: file.write(text))
