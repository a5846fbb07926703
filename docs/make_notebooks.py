"""Makes `docs/notebooks` from tutorials; `make notebooks` runs it.

The text of a tutorial becomes text, a block of bash a `%%bash` cell, a block with `title="FILE"` a
`%%writefile FILE` cell. The block that installs the package becomes a cell that does.
"""

import re
from pathlib import Path

import jupytext
import nbformat

DOCS = Path(__file__).parent
TUTORIALS = ("start", "few-labels", "own-network")
INSTALL = """```python
# The notebook lies in docs/notebooks of the repository.
%pip install --quiet '../..[demo,onnx]'
```"""
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
# Without it a tutorial that has more bash than Python would become a notebook of bash.
HEADER = """---
jupyter:
  kernelspec:
    display_name: Python 3
    language: python
    name: python3
---

"""

_MARK = re.compile(r"^<!-- runs: .*?-->\n", re.DOTALL | re.MULTILINE)
_INSTALLS = re.compile(r"^```bash\n(?:(?!```).)*pip install.*?^```$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r'^```python title="([^"]+)"$', re.MULTILINE)
_SIBLING = re.compile(r"\]\(([\w-]+\.md)")
_NOTEBOOK = re.compile(r"^.*\(\.\./notebooks/.*\n\n", re.MULTILINE)


def notebook_of(tutorial: str) -> str:
    """Returns the notebook, as JSON, of a tutorial's text."""
    text = _MARK.sub("", tutorial)
    text, installs = _INSTALLS.subn(INSTALL, text)
    if installs != 1:
        raise ValueError(f"{installs} blocks install the package; write one")
    text = _TITLE.sub(r"```python\n%%writefile \1", text)
    text = _SIBLING.sub(r"](../tutorials/\1", _NOTEBOOK.sub("", text))
    found = jupytext.reads(HEADER + text, fmt="md")
    for number, cell in enumerate(found.cells, 1):
        cell.id = f"cell-{number}"
        cell.metadata = {}
    found.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    found.nbformat, found.nbformat_minor = 4, 5
    return nbformat.writes(found) + "\n"


def main() -> None:
    """Writes the notebooks."""
    for name in TUTORIALS:
        text = (DOCS / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
        path = DOCS / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(notebook_of(text), encoding="utf-8")


if __name__ == "__main__":
    main()
