"""What a run leaves on the disk: file names, typed records, atomic writes, and one reader."""

from mgd.runfolder import names
from mgd.runfolder.folder import RunFolder
from mgd.runfolder.lock import lock_folder
from mgd.runfolder.reading import (
    Run,
    is_run,
    read_changes,
    read_epochs,
    read_matching,
    read_result,
    read_run,
)
from mgd.runfolder.records import (
    EpochRecord,
    MatchingRecord,
    OptionsChange,
    PointMatching,
    RunResult,
    epoch_columns,
)
from mgd.runfolder.writing import remove_leftovers, write_bad_images, write_per_class, write_whole

__all__ = [
    "EpochRecord",
    "MatchingRecord",
    "OptionsChange",
    "PointMatching",
    "Run",
    "RunFolder",
    "RunResult",
    "epoch_columns",
    "is_run",
    "lock_folder",
    "names",
    "read_changes",
    "read_epochs",
    "read_matching",
    "read_result",
    "read_run",
    "remove_leftovers",
    "write_bad_images",
    "write_per_class",
    "write_whole",
]
