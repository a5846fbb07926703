"""Writing a model card, when a run has ended."""

from collections.abc import Sequence
from pathlib import Path

from mgd.data.splits import Splits
from mgd.engine.card.facts import facts_of
from mgd.engine.card.markdown import block, code
from mgd.engine.card.sections import LIBRARY
from mgd.engine.card.text import card_text
from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.classifiers import Classifiers
from mgd.runfolder import RunResult, names, write_whole


def write_card(
    folder: Path, config: RunConfig, splits: Splits, classifiers: Classifiers, result: RunResult
) -> None:
    """Writes the model card of a run that has ended; arguments as those of `facts_of`.

    Raises:
        RunError: If it cannot be written.
    """
    write_text(folder, card_text(facts_of(folder, config, splits, classifiers, result)))


def write_text(folder: Path, text: str) -> None:
    """Writes the text of a card into a run folder.

    Raises:
        RunError: If it cannot be written.
    """
    write_whole(folder / names.CARD, lambda file: file.write(text.encode()))


def card_of_file(folder: Path, name: str, lines: Sequence[str]) -> str:
    """Returns a run's card for a file that its student was exported to.

    Args:
        folder: Of the run, which has a card.
        name: Of the file.
        lines: What was found of the file.
    """
    card = (folder / names.CARD).read_text(encoding="utf-8")
    found = block("text", "\n".join(lines))
    return f"{card}\n## This file\n\n{code(name)} is an export of these weights:\n\n{found}\n"


def is_card(path: Path) -> bool:
    """Tells whether a Markdown file is a model card of this package."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.startswith("---\n") and f"library_name: {LIBRARY}" in text
