"""Runs, as their folders tell them."""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mgd.errors import InputError

_NEEDED = ("arch", "data", "distiller", "size", "train-images")
_SEED = re.compile(r"-seed\d+$")


@dataclass(frozen=True)
class Run:
    """What a run folder holds."""

    folder: Path
    options: dict[str, Any]
    """`args.yaml`"""
    rows: list[dict[str, str]]
    """`summary.csv`, an epoch each"""
    result: dict[str, Any]
    """`result.json`; empty while the run goes on"""
    points: list[dict[str, Any]]
    """`matching.json`; empty without a matching"""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def group(self) -> str:
        """The name without `-seedN`: runs of one group differ in their seed alone."""
        return _SEED.sub("", self.name)

    @property
    def accuracy(self) -> float | None:
        """Top-1 in percent: on test if there is one, else on valid, which chose the epoch."""
        test = self.result.get("test_top1")
        return test if test is not None else self.result.get("valid_top1")


def read_run(folder: str | Path) -> Run:
    """Reads a run folder.

    Raises:
        InputError: If it is none, or a file in it cannot be read.
    """
    folder = Path(folder)
    if not (folder / "args.yaml").is_file() or not (folder / "summary.csv").is_file():
        raise InputError(
            f"'{folder}' is no run folder (no args.yaml and summary.csv); give one below --output"
        )
    try:
        with (folder / "summary.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        options = yaml.safe_load((folder / "args.yaml").read_text())
        if not isinstance(options, dict):
            raise ValueError("args.yaml holds no options")
        if missing := [name for name in _NEEDED if name not in options]:
            raise ValueError(f"args.yaml has no {', '.join(missing)}")
        result, matching = (_json(folder / name) for name in ("result.json", "matching.json"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"run folder '{folder}' cannot be read: {reason}") from error
    return Run(folder, options, rows, result, matching.get("points", []))


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text()) if path.is_file() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no names with values")
    return content
