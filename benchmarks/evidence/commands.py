"""Page: `docs/evidence-commands.md`, the command line of every method in the tables."""

from collections.abc import Iterable
from typing import Any

HEAD = """# Commands of the evidence

This page has the command lines of the runs whose results are in [evidence.md](evidence.md). Read
it to see every option of a run, or to repeat one run by hand. `make evidence` writes this page; it
runs the same commands.

There is one command for each method, with the first seed that was run. The other seeds differ in
`--seed` and in the names of the run folders.

Some names stand for folders. `$RUNS` is the folder of all runs and `$WEIGHTS` the folder of the
given weights files. `$CIFAR10` and `$GROCERY` are data sets. A number after the name, as in
`$CIFAR10_5`, means a folder with that many of the classes.
"""


def commands_page(sections: Iterable[tuple[str, str, list[dict[str, Any]]]]) -> str:
    """Returns the whole page.

    Args:
        sections: Of each experiment its name, its title and its rows, in the order of methods and
            seeds. One without rows is left out.
    """
    parts = [HEAD]
    for name, title, rows in sections:
        first = {row["method"]: row["command"] for row in reversed(rows)}
        methods = dict.fromkeys(row["method"] for row in rows)
        if lines := "\n".join(first[method] for method in methods):
            parts.append(f"## {name}\n\n{title}.\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def link(name: str) -> str:
    """Returns a link to the section of an experiment."""
    return f"[commands](evidence-commands.md#{name})"
