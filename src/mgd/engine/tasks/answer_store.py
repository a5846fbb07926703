"""AnswerStore: rows of arrays on the disk, one for each view of each image, mapped into memory."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import BaseFileLock
from numpy.typing import NDArray

from mgd import ranks
from mgd.errors import InputError
from mgd.runfolder import lock_folder, write_whole

GIB = 2**30
_KEY, _FLAGS = "key.json", "kept"


class Field(NamedTuple):
    """One array of a store: the shape of a row, and NumPy's name of its type."""

    shape: tuple[int, ...]
    dtype: str


Rows = Mapping[str, NDArray[Any]]


class AnswerStore:
    """Keeps rows of arrays in a folder of their own, whose name is a digest of the key.

    So rows are never those of another key. The files of view 3 are `view-3/NAME.npy`, which
    `numpy.load` reads, and `view-3/kept.npy`, which says which rows are there. A row is written
    once. It counts as kept for later processes from `save` on, when it is on the disk.

    All ranks share the files, and so have to be on one machine.

    Args:
        home: Folder of stores; made, with its parents, by `open`.
        key: All that the rows depend on, in types that JSON has.
        num_views: How many views of each image there are.
        num_images: How many images.
        fields: What a row consists of, by name.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> home, fields = Path(tempfile.mkdtemp()), {"logits": Field((2,), "float16")}
        >>> store = AnswerStore(home, {"teacher": "a"}, 1, num_images=3, fields=fields)
        >>> store.open()
        >>> store.write(0, [2, 0], {"logits": np.array([[1, 2], [3, 4]])})
        >>> store.missing(0, [0, 1, 2]).tolist()
        [False, True, False]
        >>> store.read(0, [0])["logits"]
        array([[3., 4.]], dtype=float16)
        >>> store.close()
    """

    def __init__(
        self,
        home: Path,
        key: Mapping[str, Any],
        num_views: int,
        num_images: int,
        fields: Mapping[str, Field],
    ):
        every = {name: (list(shape), dtype) for name, (shape, dtype) in fields.items()}
        self._key = json.dumps({**key, "images": num_images, "fields": every}, indent=1)
        self.folder = home / sha256(self._key.encode()).hexdigest()[:16]
        self.num_views, self.num_images = num_views, num_images
        self._fields = {**fields, _FLAGS: Field((), "bool")}
        self._views: list[dict[str, NDArray[Any]]] = []
        self._unsaved: list[NDArray[np.bool_]] = []
        self._lock: BaseFileLock | None = None

    @property
    def is_open(self) -> bool:
        """Whether the files are mapped."""
        return bool(self._views)

    def num_bytes(self, names: Sequence[str] | None = None) -> int:
        """Returns the size of all rows together.

        Args:
            names: Of the fields to count; `None` for all.
        """
        counted = self._fields.values() if names is None else map(self._fields.__getitem__, names)
        row = sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in counted)
        return row * self.num_images * self.num_views

    def check_room(self) -> None:
        """Checks that the disk has room for what is not there yet.

        Raises:
            InputError: If it has not.
        """
        there = next(each for each in (self.folder, *self.folder.parents) if each.exists())
        views = [n for n in range(self.num_views) if not self._path(n, _FLAGS).exists()]
        needed = self.num_bytes() * len(views) / self.num_views
        free = shutil.disk_usage(there).free
        if needed > free:
            raise InputError(
                f"`teacher_views` (={self.num_views}) needs {needed / GIB:.3g} GiB in "
                f"'{self.folder}', where {free / GIB:.3g} GiB are free; free some, or name another "
                "folder with `teacher_views_dir`"
            )

    def open(self) -> None:
        """Makes the files that are not there, on rank 0, and maps all into memory on every rank.

        Raises:
            InputError: If they cannot be made or read, or if another run uses them.
        """
        try:
            if ranks.rank() == 0:
                self._make()
            ranks.gather_objects(0)  # the others wait for the files
            self._views = [self._map(view) for view in range(self.num_views)]
        except (OSError, ValueError) as error:
            raise InputError(
                f"the teacher's answers cannot be kept in '{self.folder}' ({error}); make room, "
                "remove the folder if its files are damaged, or name another with "
                "`teacher_views_dir`"
            ) from error
        self._unsaved = [np.zeros(self.num_images, bool) for _ in self._views]

    def _path(self, view: int, name: str) -> Path:
        return self.folder / f"view-{view}" / f"{name}.npy"

    def _map(self, view: int) -> dict[str, NDArray[Any]]:
        mapped: dict[str, NDArray[Any]] = {}
        for name, (shape, dtype) in self._fields.items():
            mapped[name] = np.lib.format.open_memmap(self._path(view, name), "r+")
            if mapped[name].shape != (self.num_images, *shape) or mapped[name].dtype != dtype:
                raise ValueError(f"view-{view}/{name}.npy has another shape or type")
        return mapped

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(
            self.folder, "the folder of kept answers", "name another --teacher-views-dir"
        )
        key = self.folder / _KEY
        if not key.exists():
            write_whole(key, lambda file: file.write(self._key.encode()))
        elif key.read_text(encoding="utf-8") != self._key:
            raise ValueError(f"its {_KEY} is of other images, another teacher or other options")
        for view in range(self.num_views):
            if not self._path(view, _FLAGS).exists():
                self._make_view(view)

    def _make_view(self, view: int) -> None:
        folder = self._path(view, _FLAGS).parent
        folder.mkdir(exist_ok=True)
        try:
            for name, (shape, dtype) in self._fields.items():  # the flags are the last
                _allocate(self._path(view, name), (self.num_images, *shape), dtype)
        except OSError:  # such as a full disk, where nothing should be left
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def missing(self, view: int, numbers: Sequence[int]) -> NDArray[np.bool_]:
        """Tells of each image of a view whether its row is yet to be written."""
        kept = self._views[view][_FLAGS][numbers] | self._unsaved[view][numbers]
        return ~kept

    def write(self, view: int, numbers: Sequence[int], rows: Rows) -> None:
        """Keeps the rows of some images of a view; a row that is there already stays as it is.

        A run that is killed and goes on from an earlier step then finds what it found before.

        Args:
            view: From 0.
            numbers: Of the images, each once.
            rows: Of each field (n, ...).
        """
        new = self.missing(view, numbers)
        chosen = np.asarray(numbers)[new]
        for name, values in rows.items():
            self._views[view][name][chosen] = values[new]
        self._unsaved[view][chosen] = True

    def read(self, view: int, numbers: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Returns the rows of some images of a view, copied."""
        arrays = self._views[view].items()
        return {name: array[numbers] for name, array in arrays if name != _FLAGS}

    def save(self) -> None:
        """Sees to it that all that was written is on the disk, on every rank, and counts as kept.

        The rows are there before their flags are, whatever ends the process.
        """
        for arrays, unsaved in zip(self._views, self._unsaved, strict=True):
            if unsaved.any():
                for name, array in arrays.items():
                    if name != _FLAGS:
                        _flush(array)
                arrays[_FLAGS][unsaved] = True
                _flush(arrays[_FLAGS])
                unsaved[:] = False
        ranks.gather_objects(0)  # an image may be another rank's in a later epoch

    def close(self) -> None:
        """Lets go of the files; what was not saved is lost."""
        self._views, self._unsaved = [], []
        if self._lock is not None:
            self._lock.release()


def _allocate(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Makes a file of zeros that has its place on the disk.

    A mapped file that only gets it when it is written kills the process where the disk is full.
    """
    made = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    _flush(made)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _flush(array: NDArray[Any]) -> None:
    assert isinstance(array, np.memmap)
    array.flush()
