"""Options of optimizer and schedule: how the weights are updated, how long, and at which rate."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from mgd.engine.options.option import COMMANDS, TRAINING, Command, Group, Switch, option
from mgd.runfolder import names

LEARNING_RATES = {"sgd": 0.1, "adamw": 0.001}
"""Of each optimizer, where none is given."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Group):
    """Optimizer and schedule."""

    listed_for: ClassVar[tuple[Command, ...]] = TRAINING

    epochs: int = option(
        120,
        "epochs to train, besides those of the warm-up",
        least=1,
        brief="epochs to train, besides the warm-up",
    )
    start_epoch: int = option(0, "number of the first epoch, counted from 0", least=0)
    opt: Literal["sgd", "adamw"] = option(
        "sgd", "optimizer. sgd: with Nesterov's momentum; adamw: Adam with decoupled weight decay"
    )
    learning_rate: float = option(
        None,
        f"learning rate; default: that of --opt, {LEARNING_RATES['sgd']} for sgd and "
        f"{LEARNING_RATES['adamw']} for adamw",
        flags=("--lr",),
        above=0,
        brief=f"learning rate; default: {LEARNING_RATES['sgd']}",
    )
    momentum: float = option(
        0.9, "momentum of SGD, Nesterov's if above 0; at most 0.999", least=0, most=0.999
    )
    wd: float = option(1e-4, "weight decay", flags=("--weight-decay",), least=0)
    norm_weight_decay: float | None = option(
        None,
        "weight decay of the parameters of normalisation layers, such as BatchNorm; default: --wd",
        least=0,
    )
    bias_weight_decay: float | None = option(
        None,
        "weight decay of all biases, those of normalisation layers too; default: that of the "
        "layer's other parameters",
        least=0,
    )
    clip_grad_norm: float | None = option(
        None,
        "largest norm of the gradient of all weights together; a larger gradient is scaled down "
        "to it before the update; default: no limit",
        above=0,
    )
    grad_accum_steps: int = option(
        1,
        "batches that make one step of the optimizer; the loss is the mean over all their images, "
        "BatchNorm's statistics are those of each batch. Steps are counted in steps of the "
        "optimizer everywhere",
        least=1,
    )
    model_ema: bool = option(
        False,
        "average the student's weights over the steps (exponential moving average). The averaged "
        "weights are those that are measured and saved as the result",
        train_text="average the weights over the steps (exponential moving average). The averaged "
        "weights are those that are measured and saved as the result",
    )
    model_ema_decay: float = option(
        0.9998,
        "share of the average that a step keeps, for --model-ema; in step t, counted from 1, at "
        "most (1 + t) / (10 + t), so that the first weights are soon forgotten",
        least=0,
        most=0.999999,
    )
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
    patience: int = option(
        0,
        "epochs without a better validation accuracy that end the run; 0: it is never ended early. "
        "With --lr-schedule cosine the learning rate has not fallen to 0 then",
        least=0,
    )

    def __post_init__(self) -> None:
        if self.learning_rate is None:
            # The one way to set a field of a frozen dataclass. An unknown optimizer is told below.
            object.__setattr__(self, "learning_rate", LEARNING_RATES.get(self.opt))
        super().__post_init__()

    @property
    def warmup_length(self) -> int:
        """Epochs of warm-up that there are."""
        return self.warmup_epochs if self.warmup else 0

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run, warm-up included."""
        return self.epochs + self.warmup_length

    def steps_of(self, num_batches: int) -> int:
        """Returns how many steps of the optimizer so many batches make, an epoch's for instance."""
        return -(-num_batches // self.grad_accum_steps)
