"""Task: all that the training loop knows of what is trained, and towards what."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for all of them

from mgd.data.loading import Key
from mgd.engine.tasks.classes import listed
from mgd.engine.tasks.classifiers import Classifiers
from mgd.errors import InputError
from mgd.models.metadata import KEY as METADATA_KEY
from mgd.models.metadata import Metadata
from mgd.runfolder import Gallery, MatchingRecord

Item = TypeVar("Item")
Losses = tuple[Any, dict[str, Tensor]]
"""What the meter sees of the forward, such as logits (B, K) without a gradient, and the weighted
terms of the loss, (B,) each."""


class Task(ABC):
    """One kind of training; the loop has no branch for any of them.

    The loop calls `setup` once; for every epoch `begin_epoch`; for every step of it `begin_step`
    and `losses`; before a save inside an epoch `gather`; at the end of the epoch `end_epoch`; at
    the end of the run `close`. A task that has nothing to do at one of these places inherits it.
    """

    terms: Sequence[str] = ("ce",)
    """Names of the terms of the loss, in their order."""
    label_terms: Sequence[str] = ("ce",)
    """Those of them that come from the labels, and not from a teacher."""

    @property
    @abstractmethod
    def student(self) -> nn.Module:
        """The plain network that is trained, as it is evaluated and saved."""

    @property
    @abstractmethod
    def metadata(self) -> Metadata:
        """What belongs to the student's weights."""

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """What the optimizer trains and DDP wraps: the student, and what is trained beside it."""

    @abstractmethod
    def setup(self, fabric: Fabric) -> None:
        """Wraps what is trained for the devices of a launched Fabric."""

    @property
    @abstractmethod
    def wrapped(self) -> nn.Module:
        """What `setup` made of it, whose forward `losses` calls; the loop asks Fabric about it."""

    @abstractmethod
    def losses(
        self, images: Any, targets: Any, labelled: float = 1.0, seen: Sequence[Key] = ()
    ) -> Losses:
        """Runs a training forward.

        Args:
            images: On the device, as the run's data gives them. Those to classify are
                (B, 3, H, W): uint8, as the loader gives them, or float32 from 0 to 1 where they
                were mixed.
            targets: What is known of them. To classify: classes (B,), or the share of each class
                (B, K); see `LabelTerm`.
            labelled: Share of the images of this step, on all ranks, that have a label. The
                cross-entropy is a mean over those alone, the teacher's terms are over all.
            seen: View and number of each image, where they were not mixed. A task that keeps
                anything of an image needs them.
        """

    def begin_epoch(self, epoch: int) -> MatchingRecord | None:
        """Prepares an epoch, counted from 0; returns the matching if it was updated."""
        return None

    def begin_step(self, epoch: int, step: int) -> None:
        """Prepares a step, counted from 0."""
        return

    def gather(self) -> None:
        """Moves what the ranks added up on their own to rank 0, which is about to save."""
        return

    def end_epoch(self) -> None:
        """Gives every rank what all ranks saw in the epoch."""
        return

    def columns(self) -> dict[str, float]:
        """Returns what the epoch's record says beside losses and accuracies, by column."""
        return {}

    def in_step(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields this rank's items, each of which needs one forward of the teacher.

        Every rank must call it, also one without items: it may have to help the others.
        """
        return iter(items)

    def begin_gallery(self, images: Tensor, labels: Sequence[str]) -> Gallery | None:
        """Returns feature maps before the first step; None where there are none to show.

        One rank alone calls it, inside `in_step`. It runs the teacher once, if there is one.

        Args:
            images: uint8 (N, 3, H, W), on the device.
            labels: What is on each.
        """
        return None

    def finish_gallery(self, images: Tensor, begun: Gallery) -> Gallery:
        """Returns a gallery with the feature maps of the weights that are there now.

        Called as `begin_gallery` is.
        """
        return begun

    def volatile_buffers(self) -> Iterator[Tensor]:
        """Yields the buffers that a training forward changes."""
        yield from self.student.buffers()

    def running_statistics(self) -> Iterator[tuple[str, Tensor]]:
        """Yields the student's BatchNorm statistics, which must be finite, by name.

        Other buffers may be infinite rightly: an attention mask is.
        """
        for path, module in self.student.named_modules():
            if isinstance(module, _BatchNorm):
                yield from module.named_buffers(path, recurse=False)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint needs of the task: the plain student, and what is beside it."""
        return {**self._student_state(), "distiller": {}}

    def _student_state(self) -> dict[str, Any]:
        """Returns the student, and what belongs to its weights."""
        return {
            "student": self.student.state_dict(),
            METADATA_KEY: self.metadata.to_plain(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a state, strictly.

        Raises:
            InputError: If the state is of other classes.
        """
        if saved := state.get(METADATA_KEY):  # version 0.2.0 saved none
            classes = Metadata.from_plain(saved, "checkpoint").classes
            if classes != self.metadata.classes:
                raise InputError(
                    f"the checkpoint was made with other classes, or in another order: it has "
                    f"{listed(classes)}; the data has {listed(self.metadata.classes)}; give "
                    "the same data, or another --experiment"
                )
        self.student.load_state_dict(state["student"])

    def train(self) -> None:
        """Puts what is trained into training mode."""
        self.trained.train()

    def close(self) -> None:
        """Gives the networks back."""
        return


class ClassifierTask(Task):
    """A task whose networks name the class of an image."""

    classifiers: Classifiers
    """The plain networks, as they are evaluated and saved."""

    @property
    def student(self) -> nn.Module:
        """The plain network that is trained."""
        return self.classifiers.student.network

    @property
    def metadata(self) -> Metadata:
        """What belongs to the student's weights."""
        return self.classifiers.metadata
