"""Options of the output: the run folder, checkpoints and what is printed."""

from dataclasses import dataclass

from mgd.engine.options.option import TRAINING, Group, Switch, option
from mgd.errors import InputError

LOGS = ("wandb", "mlflow")
"""What --log may name."""


@dataclass(frozen=True, kw_only=True)
class OutputConfig(Group):
    """Output."""

    output: str = option(
        "runs",
        "folder in which the run folders are made",
        flags=("-o",),
        brief="folder of the run folders",
        shown="FOLDER",
    )
    experiment: str = option(
        "",
        "name of the run folder; default: made from the networks and the distiller",
        brief="name of the run folder",
        train_text="name of the run folder; default: made from the network's name",
    )
    resume: str = option(
        "",
        "continue a run; auto: from the newest checkpoint in its run folder; FILE: from that "
        "checkpoint",
        brief="auto: continue from the newest checkpoint",
        commands=TRAINING,
        shown="auto|FILE",
    )
    checkpoint_every: int = option(
        0,
        "steps between checkpoints within an epoch; 0: only at the end of each epoch",
        least=0,
        commands=TRAINING,
    )
    print_freq: int = option(
        10,
        "steps between updates of the progress line",
        flags=("-p",),
        least=1,
        commands=TRAINING,
    )
    tensorboard: Switch = option(
        1, "1: write TensorBoard events, if the package is installed", commands=TRAINING
    )
    log: tuple[str, ...] = option(
        (),
        "also send the options, the figures of each epoch and the result to wandb or mlflow, as "
        "their environment variables say (WANDB_MODE=offline, MLFLOW_TRACKING_URI); both: repeat "
        "the option",
        shown="wandb|mlflow",
        commands=TRAINING,
    )
    evaluate: bool = option(
        False,
        "measure teacher and student on `valid` instead of training",
        commands=TRAINING,
        train_text="measure the network on `valid` instead of training",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.log:
            if name not in LOGS:
                raise InputError(f"`log` (={name}) is unknown; choose one of {', '.join(LOGS)}")
            if self.log.count(name) > 1:
                raise InputError(f"`log` names {name} twice; give it once")
