"""Options of the schedule: how long and at which learning rate."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from mgd.engine.options.option import COMMANDS, TRAINING, Command, Group, Switch, option
from mgd.runfolder import names


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Group):
    """Schedule."""

    listed_for: ClassVar[tuple[Command, ...]] = TRAINING

    epochs: int = option(
        120,
        "epochs to train, besides those of the warm-up",
        least=1,
        brief="epochs to train, besides the warm-up",
    )
    start_epoch: int = option(0, "number of the first epoch, counted from 0", least=0)
    learning_rate: float = option(
        0.1, "learning rate of SGD", flags=("--lr",), above=0, brief="learning rate of SGD"
    )
    momentum: float = option(
        0.9, "momentum of SGD, Nesterov's if above 0; at most 0.999", least=0, most=0.999
    )
    wd: float = option(1e-4, "weight decay of SGD", flags=("--weight-decay",), least=0)
    lr_schedule: Literal["step", "cosine"] = option(
        "step",
        "learning rate after the warm-up. step: multiplied by --lr-drop-ratio at each of "
        "--lr-drop-epochs; cosine: falls to 0 at the end of the run",
        brief="learning rate after the warm-up",
    )
    lr_drop_epochs: tuple[int, ...] = option(
        (31, 61, 81),
        "epochs at whose start the learning rate drops, counted from the end of the warm-up",
        shown="EPOCH",
    )
    lr_drop_ratio: float = option(0.1, "what each drop multiplies the learning rate by", above=0)
    warmup: Switch = option(
        0,
        "1: raise the learning rate from a tenth over --warmup-epochs before --epochs begin",
        brief="1: raise the learning rate first",
    )
    warmup_epochs: int = option(10, "epochs of the warm-up", least=1)
    seed: int = option(
        42,
        "random seed of the weights, the order and augmentation of the images, and of --holdout; "
        "below 2**32",
        least=0,
        most=2**32 - 1,
        brief="random seed",
        commands=COMMANDS,
    )
    on_nan: Literal["stop", "skip"] = option(
        "stop",
        "what to do if a loss or gradient is NaN or infinite. stop: end the run; skip: leave out "
        f"that update and count it in skipped_steps of {names.SUMMARY} (slower: every step waits "
        "for the device)",
    )

    keep_epoch: Literal["best", "last"] = option(
        "best",
        "epoch whose weights are the result. best: the one with the highest accuracy on the "
        "validation images, of equal ones the later; last: the last, which needs no such images "
        "to be chosen by: for few of them, and a learning rate that falls to 0",
    )

    @property
    def warmup_length(self) -> int:
        """Epochs of warm-up that there are."""
        return self.warmup_epochs if self.warmup else 0

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run, warm-up included."""
        return self.epochs + self.warmup_length
