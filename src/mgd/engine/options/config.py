"""Configuration: what a run is, in frozen groups. The command line is made from these fields."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from mgd.data.transforms import Augment
from mgd.engine.options.option import Group, Switch, epoch_list, factor, option, positive, switch
from mgd.errors import InputError
from mgd.method.distiller import METHODS
from mgd.models import NAMES
from mgd.runfolder import names
from mgd.tensors.assignment import SOLVERS
from mgd.tensors.logits import LOGIT_LOSSES
from mgd.tensors.reducers import REDUCERS


@dataclass(frozen=True, kw_only=True)
class DataConfig(Group):
    """Data."""

    data: str = option("", "folder with `train` and `valid` (or `val`) inside, or digits")
    size: int = option(224, "side of the images the networks see, in pixels", least=1)
    augment: Augment = option(
        "auto",
        "training transform; auto: cifar up to 40 px, else imagenet",
        choices=("auto", "imagenet", "cifar", "shift", "none"),
    )
    train_images: int = option(
        0, "train on so many images, the same share of each class; 0: all", least=0
    )
    holdout: float = option(
        0.0,
        "share of `train` to choose the epoch on; `valid` is then a test that chooses nothing",
        least=0,
        most=0.9,
    )
    skip_bad_images: bool = option(
        False,
        "read every image once before the run and leave out those that cannot be read; they are "
        f"counted, and listed in {names.BAD_IMAGES}",
    )
    batch_size: int = option(
        256, "images per step on this node, over all its devices", flags=("-b",), least=1
    )
    workers: int = option(
        4,
        "processes that load images, per device, at most one a core; 0: none",
        flags=("-j",),
        least=0,
    )


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Group):
    """Networks."""

    arch: str = option(
        "mobilenet_v1",
        f"student: {', '.join(NAMES)}, torchvision:NAME, timm:NAME or package.module:callable",
        flags=("-a",),
    )
    teacher: str = option("", "teacher; default resnet50, and resnet152 for --arch resnet50")
    teacher_resume: str = option("", "file with the teacher's weights; default: pretrained ones")
    student_resume: str = option("", "file with the student's first weights")
    use_pretrained: Switch | None = switch(
        None,
        "1: both networks start from published ImageNet weights; 0: neither does; "
        "default: the teacher does",
    )
    pretrained: bool = option(False, "the same as --use-pretrained 1")


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(Group):
    """Distillation."""

    distiller: str = option(
        "none",
        "none: base training; kd: logits alone; mgd: Matching Guided Distillation; at the same "
        "points, with learned 1x1 convolutions: fitnet: squared distance; ofd: partial L2",
        choices=("none", "kd", *METHODS),
    )
    mgd_reducer: str = option(
        "amp",
        "; ".join(f"{name}: {reducer.title}" for name, reducer in REDUCERS.items()),
        choices=tuple(REDUCERS),
    )
    mgd_update_freq: int = option(
        1, "epochs between updates of the matching; 0: only before the first", least=0
    )
    mgd_with_kd: Switch = switch(0, "1: logit KD beside the features' loss")
    mgd_images: int = option(
        20_000, "training images that an update of the matching looks at", least=1
    )
    mgd_tracking: str = option(
        "pass",
        "channel distances: pass: from a pass of both networks over training images; online: from "
        "the training steps just before the update, without any pass but the first",
        choices=("pass", "online"),
    )
    mgd_solver: str = option(
        "scipy",
        "of the assignment; original leaves out T mod S channels, random ignores the images",
        choices=tuple(SOLVERS),
    )
    points: str = option(
        "", "auto: find them; a YAML file from `mgd points`; default: known pairs, else auto"
    )
    loss_factor: float | Literal["auto"] = option(
        "auto",
        "divides the features' loss, a sum over elements; auto: makes it --loss-worth times the "
        "weighted mean per element",
        kind=factor,
    )
    loss_worth: float | Literal["auto"] = option(
        "auto",
        "of that mean; auto: 20, which is 1e4 for the published pair at 224 px; less where an "
        "image has under 4 000 weighted elements",
        kind=factor,
    )
    kd: str = option(
        "kd",
        "loss on the logits; " + "; ".join(f"{k}: {v.title}" for k, v in LOGIT_LOSSES.items()),
        choices=tuple(LOGIT_LOSSES),
    )
    kd_temperature: float = option(1.5, "softens the logits, above 0", kind=positive)
    dkd_beta: float = option(8.0, "weight of --kd dkd's part without the label", least=0)
    kd_weight: float = option(1.0, "of the KD loss", least=0)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Group):
    """Schedule."""

    epochs: int = option(120, "epochs, those of the warm-up not counted", least=1)
    start_epoch: int = option(0, "first epoch, counted from 0", least=0)
    learning_rate: float = option(0.1, "of SGD", flags=("--lr",), kind=positive)
    momentum: float = option(0.9, "of SGD, with Nesterov's step where above 0", least=0, most=0.999)
    wd: float = option(1e-4, "weight decay", flags=("--weight-decay",), least=0)
    lr_schedule: str = option("step", "after the warm-up", choices=("step", "cosine"))
    lr_drop_epochs: tuple[int, ...] = option(
        (31, 61, 81),
        "epochs from whose start the rate is lower, warm-up not counted",
        kind=epoch_list,
    )
    lr_drop_ratio: float = option(0.1, "factor of each drop", kind=positive)
    warmup: Switch = switch(0, "1: linear warm-up from a tenth of the rate, before --epochs")
    warmup_epochs: int = option(10, "epochs of the warm-up", least=1)
    seed: int = option(
        42, "of weights, order, augmentation and held-out images", least=0, most=2**32 - 1
    )

    on_nan: Literal["stop", "skip"] = option(
        "stop",
        "where a loss or gradient is not finite; skip: that step's update alone is left out, "
        f"counted in skipped_steps of {names.SUMMARY}, at the price of a wait for the device "
        "every step",
        choices=("stop", "skip"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start_epoch >= self.total_epochs:
            raise InputError(
                f"--start-epoch {self.start_epoch} leaves nothing to train: epochs count from 0, "
                f"and there are {self.total_epochs}; give more --epochs"
            )

    @property
    def warmup_length(self) -> int:
        """Epochs of warm-up that there are."""
        return self.warmup_epochs if self.warmup else 0

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run, warm-up included."""
        return self.epochs + self.warmup_length


@dataclass(frozen=True, kw_only=True)
class DeviceConfig(Group):
    """Devices."""

    devices: int = option(
        0, "processes or GPUs on this node; 0: all visible GPUs, or one CPU process", least=0
    )
    parallel: str = option(
        "auto",
        "auto: dp for several GPUs, ddp for several CPU processes and under torchrun",
        choices=("auto", "single", "dp", "ddp"),
    )
    precision: str = option(
        "32", "of the networks' arithmetic; losses stay in 32", choices=("32", "bf16", "fp16")
    )
    teacher_precision: str = option(
        "", "of the teacher alone; default: as --precision", choices=("32", "bf16", "fp16")
    )
    fold_teacher: Switch = switch(
        1, "1: the teacher's BatchNorms are folded into its convolutions, the same to 1e-4"
    )
    compile: bool = option(False, "compile both networks with torch.compile")
    channels_last: bool = option(False, "the memory order that convolutions like")
    gpu: int | None = option(None, "number of the one GPU to use", kind=int, least=0)
    world_size: int = option(1, "nodes", least=1)
    rank: int = option(0, "number of this node, from 0", least=0)
    dist_url: str = option("tcp://localhost:10001", "where node 0 listens")
    dist_backend: str = option(
        "auto", "auto: nccl for GPUs, else gloo", choices=("auto", "nccl", "gloo")
    )
    multiprocessing_distributed: bool = option(False, "the same as --parallel ddp")
    sync_bn: Switch = switch(0, "1: BatchNorm statistics over all processes")


@dataclass(frozen=True, kw_only=True)
class OutputConfig(Group):
    """Output."""

    output: str = option("runs", "folder of the run folders", flags=("-o",))
    experiment: str = option("", "name of the run folder; default: networks and distiller")
    resume: str = option("", "auto: go on from the run folder's newest checkpoint; or a file")
    checkpoint_every: int = option(0, "steps between checkpoints inside an epoch; 0: none", least=0)
    print_freq: int = option(
        10, "steps between updates of the progress line", flags=("-p",), least=1
    )
    tensorboard: Switch = switch(1, "1: write TensorBoard events where the package is installed")
    evaluate: bool = option(False, "measure teacher and student on `valid`; do not train")

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = Path(self.experiment).parts
        if self.experiment and (not parts or ".." in parts or Path(self.experiment).is_absolute()):
            raise InputError(
                f"--experiment {self.experiment} must be the name of a folder inside --output; "
                "choose the place with --output"
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run: one field per group."""

    data: DataConfig = DataConfig()
    networks: NetworkConfig = NetworkConfig()
    distillation: DistillationConfig = DistillationConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    devices: DeviceConfig = DeviceConfig()
    output: OutputConfig = OutputConfig()

    def flat(self) -> dict[str, Any]:
        """Returns every option by its flag's name, in types that YAML has."""
        values = {}
        for group in dataclasses.fields(self):
            for name, value in vars(getattr(self, group.name)).items():
                values[name.replace("_", "-")] = list(value) if isinstance(value, tuple) else value
        return values

    def replace(self, **values: Any) -> "RunConfig":
        """Returns a copy with some options changed, given by their field's name.

        Raises:
            InputError: For a value out of range.
            TypeError: For an unknown name.
        """
        groups = {}
        for group in dataclasses.fields(self):
            old = getattr(self, group.name)
            mine = {name: values.pop(name) for name in vars(old) if name in values}
            groups[group.name] = dataclasses.replace(old, **mine)
        if values:
            raise TypeError(f"no option is called {', '.join(values)}")
        return RunConfig(**groups)

    @property
    def teacher_name(self) -> str:
        """The teacher's name, after the published defaults."""
        default = "resnet152" if self.networks.arch == "resnet50" else "resnet50"
        return self.networks.teacher or default

    @property
    def run_name(self) -> str:
        """Name of the run folder."""
        if self.output.experiment:
            return self.output.experiment
        method = self.distillation.distiller
        if method == "mgd":
            method += f"-{self.distillation.mgd_reducer}"
        if method == "kd":
            method = self.distillation.kd
        elif method != "none" and self.distillation.mgd_with_kd:
            method += f"-{self.distillation.kd}"
        parts = [self.networks.arch, "base" if method == "none" else method]
        return "-".join(parts).replace(":", "-").replace("/", "-")


def read_yaml(path: Path, flag: str) -> Any:
    """Reads a YAML file that a flag named; nothing in it is executed.

    Raises:
        InputError: If it cannot be read, naming the flag and the file.
    """
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{flag} {path} cannot be read as YAML ({reason})") from error
