"""Writing a model card, when a run has ended."""

from pathlib import Path

from mgd.data.splits import Splits
from mgd.engine.card.facts import facts_of
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
    text = card_text(facts_of(folder, config, splits, classifiers, result))
    write_whole(folder / names.CARD, lambda file: file.write(text.encode()))
