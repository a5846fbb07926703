"""The house has floors, and a module imports only from below."""

import ast
from pathlib import Path

import pytest

import mgd

ROOT = Path(mgd.__file__).parent
# From the ground up; within a floor, from left to right.
FLOORS = (
    ("errors", "memory"),
    ("distance", "assignment", "reducers", "margin", "losses", "logits"),
    ("taps", "points", "probe", "candidates", "discovery"),
    ("running", "matcher", "distillation_point", "baselines", "distiller"),
    ("rematch",),
    ("engine",),
    ("report", "cli"),
)
ALONE = FLOORS[1]
"""These import the ground floor at most, and not each other."""
WINGS = ("models", "data")
"""These import `errors` alone, and are imported by the last two floors alone."""
ORDER = [part for floor in FLOORS for part in floor]
EXEMPT = ("__init__", "__main__")


def part_of(path):
    """Returns the module or package below `mgd` that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = {
    str(path.relative_to(ROOT)): path
    for path in sorted(ROOT.rglob("*.py"))
    if part_of(path) not in EXEMPT
}


def public_homes():
    """Returns where each name of `mgd` itself comes from."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module.split(".")[1] for node in froms for alias in node.names}


HOMES = public_homes()


def imported_modules(source):
    """Yields the dotted names that a source text imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            if node.module == "mgd":
                yield from (f"mgd.{HOMES.get(alias.name, alias.name)}" for alias in node.names)
            else:
                yield node.module


def imported_parts(source):
    names = (name.split(".") for name in imported_modules(source))
    return {(parts[1] if len(parts) > 1 else "mgd") for parts in names if parts[0] == "mgd"}


def allowed(part):
    """Returns the parts of the package that a part may import, itself included."""
    if part in (*WINGS, *ALONE, "report"):
        return {part, "errors", "memory"}
    below = set(ORDER[: ORDER.index(part) + 1])
    return below | set(WINGS) if part in ("engine", "cli") else below


def faults(part, source):
    return sorted(imported_parts(source) - allowed(part))


def test_every_part_has_its_place():
    parts = {part_of(path) for path in ROOT.rglob("*.py")} - set(EXEMPT)
    assert parts <= {*ORDER, *WINGS}


@pytest.mark.parametrize("name", FILES)
def test_a_module_imports_only_from_below(name):
    assert faults(part_of(FILES[name]), FILES[name].read_text()) == []


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("report")])
def test_the_report_needs_no_torch(name):
    roots = {module.split(".")[0] for module in imported_modules(FILES[name].read_text())}
    assert not roots & {"torch", "torchvision", "lightning", "lightning_fabric", "torchmetrics"}


def test_the_root_only_re_exports():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    docstring, *rest = tree.body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(node, (ast.ImportFrom, ast.Assign)) for node in rest)
    assert set(mgd.__all__) <= {*HOMES, "__version__"}


@pytest.mark.parametrize(
    ("part", "source", "found"),
    [
        ("distance", "from mgd.losses import partial_l2", ["losses"]),
        ("taps", "from mgd.discovery import probe", ["discovery"]),
        ("matcher", "def f():\n    import mgd.distiller", ["distiller"]),
        ("matcher", "from mgd import Distiller, assign", ["distiller"]),
        ("rematch", "from mgd.models.pairs import TAPS", ["models"]),
        ("models", "from mgd.taps import Tap", ["taps"]),
        ("data", "from mgd.models import create_model", ["models"]),
        ("engine", "import mgd.cli.main", ["cli"]),
        ("report", "from mgd.engine.config import RunConfig", ["engine"]),
        ("cli", "import mgd", ["mgd"]),
        ("cli", "from mgd.report import page\nimport torch", []),
        ("engine", "from mgd.data.folder import load_folder", []),
        ("discovery", "from mgd.taps import Tap", []),
    ],
)
def test_a_breach_is_found(part, source, found):
    assert faults(part, source) == found
