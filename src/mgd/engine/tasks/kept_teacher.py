"""KeptTeacher: asks the teacher once for each view of an image, and remembers its answers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from mgd.data.loading import Key
from mgd.engine.tasks.answer_store import GIB, AnswerStore, Field
from mgd.errors import InputError
from mgd.method.answers import Answers, ask_teacher, guidance_from
from mgd.method.distiller import Distiller
from mgd.method.learner import Guidance
from mgd.tensors.short_logits import lengthen, shorten

FORMAT = 1
"""Of what is kept; it is a part of every key."""
MOST_CLASSES = 1024
"""Of more classes only so many, the likeliest, are kept by themselves."""


class KeptTeacher:
    """The teacher of a distiller, whose answers to fixed views are kept.

    All channels of its features are kept, at the size at which they are compared, so that a
    matching of any later epoch makes its target of them. Features and logits are kept in 16 bits.
    The losses see what is kept from the first step on: it makes no difference whether the teacher
    runs or rests, or whether a run was stopped in between.

    Args:
        distiller: Whose teacher it is.
        num_classes: K, of the student's logits.
        home: Folder of stores of answers.
        key: All that the answers depend on, but for the view and the number of an image.
        num_views: How many views of each image there are.
        num_images: How many images.
    """

    def __init__(
        self,
        distiller: Distiller,
        num_classes: int,
        home: Path,
        key: Mapping[str, Any],
        num_views: int,
        num_images: int,
    ):
        self._distiller, self._num_classes = distiller, num_classes
        fields = dict(self._fields())
        self.store = AnswerStore(home, {"format": FORMAT, **key}, num_views, num_images, fields)
        self._features = [name for name in fields if name.startswith("point_")]

    def _fields(self) -> Iterator[tuple[str, Field]]:
        if self._distiller.learner.logit_term.weight:
            if self._num_classes <= MOST_CLASSES:
                yield "logits", Field((self._num_classes,), "float16")
            else:
                yield "logits", Field((MOST_CLASSES + 1,), "float16")
                yield "classes", Field((MOST_CLASSES,), "int32")
        for number, pair in enumerate(self._distiller.points.pairs, start=1):
            yield f"point_{number}", Field((pair.teacher_shape[0], *pair.size), "float16")

    def check_size(self, most_gib: float) -> None:
        """Checks that what is to be kept is not more than it may be, and that there is room for it.

        Args:
            most_gib: In 2^30 bytes.

        Raises:
            InputError: If it is more, or the disk has no room.
        """
        whole = self.store.num_bytes() / GIB
        if whole > most_gib:
            features = self.store.num_bytes(self._features) / GIB
            cheaper = "`distiller=kd`, which keeps no features, " if self._features else ""
            raise InputError(
                f"`teacher_views` (={self.store.num_views}) of {self.store.num_images} images need "
                f"{whole:.3g} GiB, {features:.3g} of them for features, and `teacher_views_gib` "
                f"allows {most_gib:g}; choose fewer views, fewer images, {cheaper}or a higher limit"
            )
        self.store.check_room()

    def guide(self, images: Tensor, seen: Sequence[Key], track: bool = False) -> Guidance:
        """Returns what the learner needs of the teacher, which runs only if it has to.

        Args:
            images: As `Distiller.guide` takes them.
            seen: View and number of each.
            track: As there.

        Raises:
            InputError: As `AnswerStore.open`, in the first call; and for features that 16 bits
                cannot hold.
        """
        if not self.store.is_open:
            self.store.open()
        (view,) = {view for view, _ in seen}
        numbers = [number for _, number in seen]
        if self.store.missing(view, numbers).any():
            answers = ask_teacher(self._distiller, images)
            self.store.write(view, numbers, dict(self._packed(answers)))
        answers = self._unpacked(self.store.read(view, numbers), images.device)
        return guidance_from(self._distiller, answers, track)

    def _packed(self, answers: Answers) -> Iterator[tuple[str, NDArray[Any]]]:
        if answers.logits is not None:
            values, classes = shorten(answers.logits, MOST_CLASSES)
            yield "logits", _finite(values, "logits")
            if classes is not None:
                yield "classes", classes.cpu().numpy()
        for name, maps in zip(self._features, answers.features, strict=True):
            yield name, _finite(maps.half(), f"features at {name}")

    def _unpacked(self, rows: Mapping[str, NDArray[Any]], device: torch.device) -> Answers:
        found = {
            name: torch.from_numpy(row).to(device, non_blocking=True) for name, row in rows.items()
        }
        logits = None
        if "logits" in found:
            logits = lengthen(found["logits"], found.get("classes"), self._num_classes)
        return Answers([found[name].float() for name in self._features], logits)

    def save(self) -> None:
        """Sees to it that what was asked so far is kept, on every rank."""
        if self.store.is_open:
            self.store.save()

    def close(self) -> None:
        """Lets go of the files."""
        self.store.close()


def _finite(values: Tensor, what: str) -> NDArray[Any]:
    if not values.isfinite().all():
        raise InputError(
            f"the teacher's {what} are no numbers, or are above 65504, which is the largest number "
            "of 16 bits; leave `teacher_views` out"
        )
    array: NDArray[Any] = values.cpu().numpy()
    return array
