"""Metadata: what belongs to a network's weights, and is kept in the same file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgd.errors import InputError
from mgd.views import View

KEY = "mgd"
"""Name of the metadata in a checkpoint, a safetensors file and an ONNX file."""
PT2_FILE = "mgd.json"
"""The file inside a `.pt2` archive that holds them."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """A network's name, its classes, and how it sees an image.

    Weights alone do not tell which output is which class, or at which size and normalisation the
    network was trained: with others it answers wrongly, without an error.

    Example:
        >>> import mgd
        >>> metadata = mgd.Metadata(arch="resnet18", classes=("cat", "dog"), view=mgd.View())
        >>> mgd.Metadata.from_json(metadata.to_json()) == metadata
        True
    """

    arch: str
    """Name, as `mgd.create_model` takes it."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the outputs."""
    view: View
    """How the network sees an image."""
    pruned: bool = False
    """Whether channels were removed, so that the shapes of the weights tell how many are left."""

    def to_plain(self) -> dict[str, Any]:
        """Returns the metadata as JSON has them."""
        plain = {"arch": self.arch, "classes": list(self.classes), "view": self.view.to_plain()}
        return {**plain, "pruned": True} if self.pruned else plain

    def to_json(self) -> str:
        """Returns the metadata as one line of JSON, in ASCII."""
        return json.dumps(self.to_plain())

    @classmethod
    def from_plain(cls, values: Any, source: str = "metadata") -> "Metadata":
        """Makes metadata of what `to_plain` gave.

        Args:
            values: A mapping.
            source: Where it comes from, for an error.

        Raises:
            InputError: If a value is missing or of another kind.
        """
        try:
            if fault := _fault(values):
                raise InputError(fault)
            view = View.from_plain(values["view"])
        except InputError as error:
            raise InputError(
                f"'{source}': what it says of the network is unusable: {error}; use another copy "
                "of the file"
            ) from error
        pruned = values.get("pruned", False)
        return cls(arch=values["arch"], classes=tuple(values["classes"]), view=view, pruned=pruned)

    @classmethod
    def from_json(cls, text: str, source: str = "metadata") -> "Metadata":
        """Makes metadata of what `to_json` gave; see `from_plain`."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):  # a deep nest is a forged one
            values = None
        return cls.from_plain(values, source)


def beside(path: Path) -> Path:
    """Returns the file with the metadata of a file that cannot hold them, such as a `.pth`."""
    return path.with_suffix(".json")


def is_metadata(path: Path) -> bool:
    """Tells whether a JSON file is of a network: another project's may have the name as well."""
    return '"view"' in path.read_text(encoding="utf-8", errors="replace")


def _fault(values: Any) -> str:
    """Returns what is wrong with metadata; empty if nothing is."""
    if not isinstance(values, Mapping):
        return "it is no mapping in JSON"
    if missing := [name for name in ("arch", "classes", "view") if name not in values]:
        return f"no '{missing[0]}'"
    if not isinstance(values["arch"], str):
        return "'arch' is no text"
    classes = values["classes"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        return "'classes' is no list of names"
    if len(set(classes)) < len(classes):
        return "'classes' has a name twice"
    if not isinstance(values.get("pruned", False), bool):
        return "'pruned' is neither true nor false"
    return "" if isinstance(values["view"], Mapping) else "'view' is no mapping"
