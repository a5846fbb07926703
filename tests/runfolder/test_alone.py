"""The run folder and the report stand alone: no torch, and nothing of one system."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import mgd
from mgd.runfolder import names

ROOT = Path(mgd.__file__).parent
BENCHMARKS = ROOT.parents[1] / "benchmarks"
# "tensorboard" is also the name of an option and of a package.
NAMES = [value for key, value in vars(names).items() if key.isupper() and "." in value]

# `mgd` itself imports torch for its other parts: a package of the same path stands in for it.
ALONE = """
import importlib.abc, sys, types

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ImportError(f"{{name}} is refused")

sys.meta_path.insert(0, Refuse())
sys.modules["mgd"] = types.ModuleType("mgd")
sys.modules["mgd"].__path__ = [{root!r}]
{code}
"""
TORCH = ["torch", "torchvision", "lightning_fabric", "torchmetrics", "scipy"]


def run_alone(refused, code):
    code = ALONE.format(refused=refused, root=str(ROOT), code=code)
    words = [sys.executable, "-W", "ignore:only soft file lock", "-c", code]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_neither_needs_torch():
    code = "import mgd.runfolder, mgd.report\nprint(*sorted(sys.modules))"
    found = run_alone(TORCH, code)
    assert found.returncode == 0, found.stderr
    loaded = {name.partition(".")[0] for name in found.stdout.split()}
    assert not loaded & set(TORCH)
    assert {"mgd", "filelock", "yaml"} <= loaded


def test_a_refused_import_would_be_seen():
    found = run_alone(TORCH, "import mgd.models")
    assert found.returncode == 1
    assert "torchvision is refused" in found.stderr


def test_a_folder_is_written_and_read_without_fcntl(tmp_path):
    """As on Windows, which has no such module."""
    code = f"""
from pathlib import Path
from mgd.errors import InputError
from mgd.runfolder import RunFolder, epoch_columns, read_run
columns = epoch_columns(["loss"], teacher=False, matching=False, skips=False)
options = {{"arch": "a", "data": "b", "distiller": "none", "size": 8, "train-images": 0}}
path = Path({str(tmp_path)!r}) / "run"
folder = RunFolder(path, options, columns)
folder.keep_epochs_before(0)
try:
    RunFolder(path, options, columns)
except InputError as error:
    print(error)
folder.close()
RunFolder(path, options, columns).close()
print(read_run(path).options["arch"])
"""
    found = run_alone([*TORCH, "fcntl"], code)
    assert found.returncode == 0, found.stderr
    refused, arch = found.stdout.splitlines()
    assert "is in use by another run" in refused
    assert arch == "a"


def spelled(source):
    """Returns the names of a run folder's files in the texts of a module, docstrings aside."""
    tree = ast.parse(source)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]
    return {
        name for name in NAMES for text in texts if re.search(rf"(?<!\w){re.escape(name)}", text)
    }


def test_no_other_module_spells_a_file_name():
    assert len(NAMES) == 26
    files = [*ROOT.rglob("*.py"), *BENCHMARKS.rglob("*.py")]
    assert len(files) > 80
    found = {str(path): spelled(path.read_text()) for path in files if path != Path(names.__file__)}
    assert {path: them for path, them in found.items() if them} == {}


def test_a_spelled_name_is_found():
    assert spelled('"""Of last.ckpt."""\npath = f"{folder}/last.ckpt"') == {"last.ckpt"}
    assert spelled('"""Of last.ckpt."""\npath = folder / names.LAST_CHECKPOINT') == set()
