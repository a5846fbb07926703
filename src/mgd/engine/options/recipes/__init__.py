"""Recipes: options that go together, one YAML file each, by name.

A file has the form that `-c` takes. It may hold options of the teacher, which `mgd train` leaves
out.
"""

from pathlib import Path

RECIPES: dict[str, Path] = {
    path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))
}
"""The file of each recipe."""
