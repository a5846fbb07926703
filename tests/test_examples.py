"""Every example runs, on random data and without a download."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_an_example_runs(name, capsys, monkeypatch):
    if "timm" in name:
        pytest.importorskip("timm")
    monkeypatch.setattr("sys.argv", [f"{name}.py"])  # not pytest's own words
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "loss" in capsys.readouterr().out
