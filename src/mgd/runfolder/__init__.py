"""What a run leaves on the disk: file names, typed records, atomic writes, and one reader."""

from mgd.runfolder import names
from mgd.runfolder.evaluation import (
    Evaluation,
    MeasuredNetwork,
    free_folder,
    is_evaluation,
    read_evaluation,
    write_evaluation,
)
from mgd.runfolder.folder import RunFolder
from mgd.runfolder.gallery import Gallery, GalleryChannel, Taught, read_gallery, write_gallery
from mgd.runfolder.lock import lock_folder
from mgd.runfolder.reading import (
    Run,
    is_run,
    read_changes,
    read_epochs,
    read_matching,
    read_options,
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
from mgd.runfolder.writing import remove_leftovers, write_bad_images, write_table, write_whole

__all__ = [
    "EpochRecord",
    "Evaluation",
    "Gallery",
    "GalleryChannel",
    "MatchingRecord",
    "MeasuredNetwork",
    "OptionsChange",
    "PointMatching",
    "Run",
    "RunFolder",
    "RunResult",
    "Taught",
    "epoch_columns",
    "free_folder",
    "is_evaluation",
    "is_run",
    "lock_folder",
    "names",
    "read_changes",
    "read_epochs",
    "read_evaluation",
    "read_gallery",
    "read_matching",
    "read_options",
    "read_result",
    "read_run",
    "remove_leftovers",
    "write_bad_images",
    "write_evaluation",
    "write_gallery",
    "write_table",
    "write_whole",
]
