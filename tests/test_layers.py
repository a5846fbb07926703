"""The house has floors: a module imports only from rooms below its own, and never in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

import mgd

ROOT = Path(mgd.__file__).parent
# From the ground up. A room may import from the rooms before it and from itself, unless `MAY` says
# less; a room inside the engine is named with a dot.
ROOMS = (
    "errors",
    "version",
    "ranks",
    "own_code",
    "views",
    "tensors",
    "inside",
    "method",
    "models",
    "data",
    "runfolder",
    "engine.options",
    "engine.runtime",
    "engine.logs",
    "engine.tasks",
    "engine.loop",
    "engine.card",
    "engine.run",
    "engine.measure",
    "engine.predict",
    "engine.compare",
    "engine.export",
    "engine.detection",
    "report",
    "integrations",
    "cli",
)
MAY = {
    "ranks": {"errors"},
    "own_code": {"errors"},
    "tensors": {"errors"},
    "inside": {"errors"},  # a look at networks needs no formula
    "views": {"errors"},
    "models": {"errors", "own_code", "views"},
    "data": {"errors", "ranks", "views"},
    "runfolder": {"errors"},
    "report": {"errors", "runfolder"},
    "integrations": {"errors", "tensors", "inside", "method"},  # the library, not the engine
}
"""Rooms beside the stairs: what these may import, and nothing else."""
ALONE = {f"tensors.{name}" for name in ("distance", "assignment", "reducers", "margin", "losses")}
"""One idea each: these import no other formula."""
WITHOUT_TORCH = ("runfolder", "report", "errors", "version")
TORCH = {"torch", "torchvision", "lightning", "lightning_fabric", "torchmetrics"}


def module_name(path):
    """Returns the dotted name below `mgd`; a package has its folder's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def room_of(module):
    """Returns the room of a dotted name, or "" for the root, the engine itself and `__main__`."""
    return max((r for r in ROOMS if f"{module}.".startswith(f"{r}.")), key=len, default="")


def imported_modules(source):
    """Yields the dotted names that a text imports, wherever in it, as far as the names tell."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = name.removeprefix("mgd.") in MODULES and node.module.startswith("mgd")
                yield name if is_module else node.module


def own_imports(source):
    """Returns the modules of this package that a text imports, below `mgd`."""
    names = set(imported_modules(source))
    return {n.removeprefix("mgd").lstrip(".") for n in names if n.split(".")[0] == "mgd"}


def allowed(room):
    """Returns the rooms that a room may import, itself included."""
    return {room} | MAY.get(room, set(ROOMS[: ROOMS.index(room)]))


def faults(module, source):
    """Returns what a module imports and must not."""
    room = room_of(module)
    found = {name for name in own_imports(source) if room_of(name) not in allowed(room)}
    if module in ALONE:
        others = {name for name in own_imports(source) if room_of(name) == "tensors"}
        found |= others - {"tensors.memory"}
    return sorted(found)


IN_ROOMS = [module for module in MODULES if room_of(module)]


def test_every_module_has_its_room():
    assert set(MODULES) - set(IN_ROOMS) == {"", "__main__", "engine"}


@pytest.mark.parametrize("module", IN_ROOMS)
def test_a_module_imports_only_from_below(module):
    assert faults(module, MODULES[module].read_text()) == []


def test_no_module_imports_itself_in_a_circle():
    """Also where only a type is imported, or inside a function."""
    graph = {module: own_imports(path.read_text()) for module, path in MODULES.items() if module}
    # A room's front page imports its modules; that these import each other is no circle with it.
    pages = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    graph = {m: found - pages for m, found in graph.items() if m not in pages}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", IN_ROOMS)
def test_nothing_is_hidden_behind_a_check_for_types(module):
    assert "TYPE_CHECKING" not in MODULES[module].read_text()


@pytest.mark.parametrize("module", [m for m in IN_ROOMS if room_of(m) in WITHOUT_TORCH])
def test_a_record_of_a_run_needs_no_torch(module):
    roots = {name.split(".")[0] for name in imported_modules(MODULES[module].read_text())}
    assert not roots & TORCH


@pytest.mark.parametrize("module", [m for m in MODULES if m != "ranks"])
def test_a_rank_is_asked_for_in_one_place(module):
    names = set(imported_modules(MODULES[module].read_text()))
    assert not any(name.startswith("torch.distributed") for name in names)


@pytest.mark.parametrize("module", [m for m in MODULES if m != "inside.graph"])
def test_names_of_autograds_operations_are_in_one_place(module):
    text = MODULES[module].read_text()
    assert "Backward" not in text
    assert ".next_functions" not in text


@pytest.mark.parametrize("room", [room for room in MODULES if MODULES[room].name == "__init__.py"])
def test_a_room_says_in_a_sentence_what_it_is_for(room):
    docstring = ast.get_docstring(ast.parse(MODULES[room].read_text())) or ""
    first = docstring.splitlines()[0] if docstring else ""
    assert first.endswith(".")
    assert len(first.split()) >= 5


def test_the_root_only_re_exports():
    docstring, *rest = ast.parse((ROOT / "__init__.py").read_text()).body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(node, (ast.ImportFrom, ast.Assign)) for node in rest)
    homes = {
        alias.name for node in rest if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert set(mgd.__all__) <= homes


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("tensors.distance", "from mgd.tensors.losses import partial_l2", ["tensors.losses"]),
        ("tensors.distance", "from mgd.tensors.memory import memory_blocks", []),
        ("inside.tap", "from mgd.method.distiller import Distiller", ["method.distiller"]),
        ("inside.tap", "from mgd.tensors import distance", ["tensors.distance"]),
        ("method.matcher", "def f():\n    import mgd.engine.run", ["engine.run"]),
        ("method.matcher", "from mgd import models", ["models"]),
        ("method.matcher", "from mgd import Distiller", [""]),
        ("models.weights", "from mgd.inside import Tap", ["inside"]),
        ("data.check", "from mgd import ranks", []),
        ("data.check", "from mgd.models import create_model", ["models"]),
        ("engine.tasks.task", "from mgd.engine.loop import trainer", ["engine.loop.trainer"]),
        ("engine.loop.trainer", "from mgd.engine.tasks.task import Task", []),
        ("engine.loop.trainer", "from mgd.engine.run import train", ["engine.run"]),
        ("engine.run", "import mgd.cli.main", ["cli.main"]),
        (
            "report.page",
            "from mgd.engine.options.config import RunConfig",
            ["engine.options.config"],
        ),
        ("cli.main", "from mgd.report import page\nimport torch", []),
    ],
)
def test_a_breach_is_found(module, source, found):
    assert faults(module, source) == found
