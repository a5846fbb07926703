"""What a run leaves on the disk: file names, typed records, atomic writes, and one reader."""

from mgd.runfolder import names
from mgd.runfolder.answers import (
    AGREEMENTS,
    VERDICTS,
    ImageAnswer,
    confident_mistakes,
    disagreements,
    read_answers,
    read_thumbnails,
    write_answers,
    write_thumbnails,
)
from mgd.runfolder.boxes import BoxPicture, KeptBox, read_boxes, write_boxes
from mgd.runfolder.comparison import (
    ComparedNetwork,
    Comparison,
    Cost,
    Latency,
    write_comparison,
)
from mgd.runfolder.detection import MeasuredDetector, is_detection, write_detection
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
from mgd.runfolder.scores import CLASSIFIED, DETECTED, ScoreColumns
from mgd.runfolder.starts import Start, read_starts
from mgd.runfolder.updates import PointUpdate, read_updates
from mgd.runfolder.writing import remove_leftovers, write_bad_images, write_table, write_whole

__all__ = [
    "AGREEMENTS",
    "CLASSIFIED",
    "DETECTED",
    "VERDICTS",
    "BoxPicture",
    "ComparedNetwork",
    "Comparison",
    "Cost",
    "EpochRecord",
    "Evaluation",
    "Gallery",
    "GalleryChannel",
    "ImageAnswer",
    "KeptBox",
    "Latency",
    "MatchingRecord",
    "MeasuredDetector",
    "MeasuredNetwork",
    "OptionsChange",
    "PointMatching",
    "PointUpdate",
    "Run",
    "RunFolder",
    "RunResult",
    "ScoreColumns",
    "Start",
    "Taught",
    "confident_mistakes",
    "disagreements",
    "epoch_columns",
    "free_folder",
    "is_detection",
    "is_evaluation",
    "is_run",
    "lock_folder",
    "names",
    "read_answers",
    "read_boxes",
    "read_changes",
    "read_epochs",
    "read_evaluation",
    "read_gallery",
    "read_matching",
    "read_options",
    "read_result",
    "read_run",
    "read_starts",
    "read_thumbnails",
    "read_updates",
    "remove_leftovers",
    "write_answers",
    "write_bad_images",
    "write_boxes",
    "write_comparison",
    "write_detection",
    "write_evaluation",
    "write_gallery",
    "write_table",
    "write_thumbnails",
    "write_whole",
]
