"""Boxes by place: which layout a folder of images with boxes has."""

from pathlib import Path

from mgd.data.boxes import BoxSplits, check_parts
from mgd.data.coco import coco_files, load_coco
from mgd.data.decode import BitDepth
from mgd.data.voc import is_voc, load_voc
from mgd.errors import InputError


def has_boxes(place: Path) -> bool:
    """Tells whether a folder has the layout of images with boxes.

    Raises:
        InputError: As `coco_files`.
    """
    return place.is_dir() and (is_voc(place) or bool(coco_files(place)))


def load_boxes(source: str | Path, bit_depth: BitDepth = "auto") -> BoxSplits:
    """Loads a data set of images with boxes, in the layout of Pascal VOC or of COCO.

    Args:
        source: The folder.
        bit_depth: How many bits the grey values in 16-bit image files have; see `decode`.

    Raises:
        InputError: As `load_voc` and `load_coco`, and for a folder of neither layout.
    """
    root = Path(source)
    if not root.is_dir():
        fault = "is a file" if root.exists() else "does not exist"
        raise InputError(f"data folder '{root}' {fault}; give {_NEEDED}")
    if is_voc(root):
        splits = load_voc(root, bit_depth)
    elif coco_files(root):
        splits = load_coco(root, bit_depth)
    else:
        raise InputError(f"'{root}' has no images with boxes; give {_NEEDED}")
    check_parts(splits, str(source))
    return splits


_NEEDED = (
    "a folder with annotations/instances_train*.json and annotations/instances_val*.json (COCO), "
    "or with Annotations, JPEGImages and ImageSets/Main/train.txt and val.txt (Pascal VOC)"
)
