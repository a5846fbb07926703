"""The numbers that other programs gave a run, by which it goes on there when it is resumed."""

import json
from pathlib import Path

from mgd.runfolder import names, write_whole


def read_ids(folder: Path) -> dict[str, str]:
    """Returns the ids of a run by the name of the log; empty where there are none yet."""
    path = folder / names.LOG_IDS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def keep_id(folder: Path, name: str, given: str) -> None:
    """Keeps the id of a run in its folder.

    Raises:
        RunError: If it cannot be written.
    """
    text = json.dumps({**read_ids(folder), name: given}, indent=1)
    write_whole(folder / names.LOG_IDS, lambda file: file.write(text.encode()))
