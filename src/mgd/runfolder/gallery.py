"""Gallery: feature maps of some channels on some validation images, before and after training.

The file is an archive of NumPy arrays. A map is stored as int8 numbers with one scale for all maps
of a kind and channel, which is as exact as a picture needs. A run writes the file twice: before its
first step, when the student's maps are those of an untrained network, and at its end.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mgd.runfolder import names
from mgd.runfolder.files import telling_of
from mgd.runfolder.writing import write_whole

Maps = npt.NDArray[np.float32]
_FORMAT, _META, _SCALE = 1, "meta", ".scale"
_STEPS = 127
"""Values above zero, and below it, that a stored map can have."""
_MOST_BYTES = 4 << 20
"""A file that unpacks to more was not made by a run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Taught:
    """What a student channel was taught, and what became of it, with the best epoch's weights."""

    followed: list[int]
    """The teacher channels whose maps are in `teacher`, the nearest to the target first."""
    groups: int
    """How many teacher channels it follows in all."""
    margin: float
    """Where the target is lower than this, it is raised to it; at most 0."""
    teacher: Maps
    """(channels, images, height, width)"""
    target: Maps
    """What the reducer makes of all the maps that it follows; (images, height, width)."""
    after: Maps
    """The student's map as the loss compares it, behind the point's BatchNorm; as `target`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GalleryChannel:
    """One student channel of a distillation point, on all images of the gallery."""

    teacher: str
    """Tap in the teacher."""
    student: str
    """Tap in the student."""
    channel: int
    before: Maps
    """The student's map before the first step, with mean 0 and deviation 1 over the images, as the
    point's BatchNorm would give it; (images, height, width)."""
    taught: Taught | None = None
    """None until the run has ended."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """What a run keeps to show what its student was taught."""

    pictures: npt.NDArray[np.uint8]
    """The images, (images, height, width, 3)."""
    labels: list[str]
    """The class of each image; in a run without labels, what the teacher takes it for."""
    channels: list[GalleryChannel]
    """In the order of the points, from the input to the output of the networks."""

    @property
    def is_whole(self) -> bool:
        """Whether the run has ended, so that there is something to compare."""
        return bool(self.channels) and all(each.taught is not None for each in self.channels)

    @property
    def is_finite(self) -> bool:
        """Whether every value of every map is a number, as none is where a training diverged."""
        maps = [each.before for each in self.channels]
        for taught in (each.taught for each in self.channels):
            if taught is not None:
                maps += [taught.teacher, taught.target, taught.after]
        return all(bool(np.isfinite(each).all()) for each in maps)


def write_gallery(folder: Path, gallery: Gallery) -> None:
    """Writes the gallery of a run.

    Raises:
        RunError: If it cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> channel = GalleryChannel(
        ...     teacher="relu", student="relu", channel=3, before=np.ones((2, 4, 4), np.float32)
        ... )
        >>> pictures = np.zeros((2, 8, 8, 3), np.uint8)
        >>> write_gallery(
        ...     folder, Gallery(pictures=pictures, labels=["cat", "dog"], channels=[channel])
        ... )
        >>> read_gallery(folder).channels[0].before.shape
        (2, 4, 4)
    """
    arrays: dict[str, npt.NDArray[Any]] = {"pictures": gallery.pictures}
    entries = []
    for number, each in enumerate(gallery.channels):
        entry = {"teacher": each.teacher, "student": each.student, "channel": each.channel}
        _pack(arrays, f"{number}.before", each.before)
        if (taught := each.taught) is not None:
            entry |= {"followed": taught.followed, "groups": taught.groups, "margin": taught.margin}
            for name in ("teacher", "target", "after"):
                _pack(arrays, f"{number}.{name}", getattr(taught, name))
        entries.append(entry)
    meta = {"format": _FORMAT, "labels": gallery.labels, "channels": entries}
    arrays[_META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # no array is named as a flag
    write_whole(folder / names.GALLERY, lambda file: file.write(content.getvalue()))


def _pack(arrays: dict[str, npt.NDArray[Any]], name: str, maps: Maps) -> None:
    scale = float(np.abs(maps).max(initial=0)) / _STEPS
    arrays[name] = np.rint(maps / (scale or 1)).astype(np.int8)
    arrays[name + _SCALE] = np.array(scale, np.float32)


def read_gallery(folder: Path) -> Gallery | None:
    """Reads the gallery of a run; None where there is none.

    Raises:
        InputError: If the file cannot be read.
    """
    path = folder / names.GALLERY
    if not path.is_file():
        return None
    with telling_of(path):
        try:
            return _gallery(_arrays(path))
        except (zipfile.BadZipFile, KeyError, TypeError, EOFError, NotImplementedError) as error:
            raise ValueError(f"it holds no gallery ({error})") from error


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
            raise ValueError(f"it unpacks to more than {_MOST_BYTES >> 20} MB")
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _gallery(arrays: Mapping[str, npt.NDArray[Any]]) -> Gallery:
    meta = json.loads(arrays[_META].tobytes())
    pictures = arrays["pictures"]
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise ValueError(f"its pictures are {pictures.dtype} of shape {pictures.shape}")
    channels = [_channel(arrays, number, entry) for number, entry in enumerate(meta["channels"])]
    if any(len(each.before) != len(pictures) for each in channels):
        raise ValueError("its maps are not of its pictures")
    labels = [str(label) for label in meta["labels"]]
    if len(labels) != len(pictures):
        raise ValueError(f"{len(labels)} labels for {len(pictures)} pictures")
    return Gallery(pictures=pictures, labels=labels, channels=channels)


def _channel(
    arrays: Mapping[str, npt.NDArray[Any]], number: int, entry: Mapping[str, Any]
) -> GalleryChannel:
    before = _unpacked(arrays, f"{number}.before")
    taught = None
    if "followed" in entry:
        followed = [int(channel) for channel in entry["followed"]]
        taught = Taught(
            followed=followed,
            groups=int(entry["groups"]),
            margin=float(entry["margin"]),
            teacher=_unpacked(arrays, f"{number}.teacher"),
            target=_unpacked(arrays, f"{number}.target"),
            after=_unpacked(arrays, f"{number}.after"),
        )
        shapes = {taught.target.shape, taught.after.shape, before.shape}
        if shapes != {before.shape} or taught.teacher.shape != (len(followed), *before.shape):
            raise ValueError("its maps have different sizes")
    return GalleryChannel(
        teacher=str(entry["teacher"]),
        student=str(entry["student"]),
        channel=int(entry["channel"]),
        before=before,
        taught=taught,
    )


def _unpacked(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Maps:
    steps, scale = arrays[name], float(arrays[name + _SCALE])
    if steps.dtype != np.int8 or steps.ndim not in (3, 4) or not np.isfinite(scale):
        raise ValueError(f"'{name}' is {steps.dtype} of shape {steps.shape}, and no maps")
    return steps.astype(np.float32) * np.float32(scale)
