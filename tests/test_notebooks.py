"""The notebooks are those of the tutorials, and one of them runs."""

import json
import re
import runpy
from pathlib import Path

import pytest

from pages import ROOT
from shell import execute, own_modules, run_bash

pytest.importorskip("jupytext")
MAKE = runpy.run_path(str(ROOT / "docs" / "make_notebooks.py"))


def notebook(name):
    return (ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")


def cells(name):
    return [
        "".join(cell["source"])
        for cell in json.loads(notebook(name))["cells"]
        if cell["cell_type"] == "code"
    ]


@pytest.mark.parametrize("name", MAKE["TUTORIALS"])
def test_a_notebook_is_its_tutorials(name):
    tutorial = (ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    assert MAKE["notebook_of"](tutorial) == notebook(name), "run `make notebooks`"
    found = json.loads(notebook(name))["cells"]
    assert not any(cell.get("outputs") for cell in found)
    assert "%pip install" in cells(name)[0]
    assert "<!--" not in notebook(name)
    for cell in cells(name)[1:]:
        if not cell.startswith(("%%bash\n", "%%writefile ")):
            compile(cell, name, "exec")


@pytest.mark.parametrize("name", MAKE["TUTORIALS"])
def test_every_link_of_a_notebook_leads_somewhere(name):
    for link in re.findall(r"\]\(([\w./-]+)", notebook(name)):
        assert (ROOT / "docs" / "notebooks" / link).exists(), link


@pytest.mark.filterwarnings("ignore")
def test_the_cells_of_a_notebook_run(tmp_path, monkeypatch, few_digits):
    folder = tmp_path / "notebook"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    names = {}
    first, *rest = cells("own-network")
    assert "%pip" in first
    with own_modules():
        for cell in rest:
            head, _, code = cell.partition("\n")
            if head == "%%bash":
                status, said = run_bash(code, folder, execute)
                assert status == 0, said
            elif head.startswith("%%writefile "):
                Path(head.split()[1]).write_text(code)
            else:
                exec(cell, names)
    assert {"mynets.py", "points.yaml", "runs", "student.pth"} <= {p.name for p in folder.iterdir()}
