"""Checks that concern several options, or one as a whole; `RunConfig` calls them once.

What only the machine can tell (which GPUs are visible) is checked in `engine.runtime.devices`.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mgd.engine.options.augmentation import AugmentationConfig
from mgd.engine.options.data import DataConfig
from mgd.engine.options.detection import DetectionConfig
from mgd.engine.options.devices import DeviceConfig
from mgd.engine.options.distillation import DistillationConfig
from mgd.engine.options.labels import LabelConfig
from mgd.engine.options.networks import NetworkConfig
from mgd.engine.options.option import options_of
from mgd.engine.options.output import OutputConfig
from mgd.engine.options.schedule import ScheduleConfig
from mgd.engine.options.views import ViewConfig
from mgd.errors import InputError
from mgd.models import is_code

TEACHER_OPTIONS = frozenset(
    option.name
    for group in (
        *(DataConfig, ViewConfig, NetworkConfig, DistillationConfig),
        *(DetectionConfig, DeviceConfig),
    )
    for option in options_of(group)
    if "train" not in option.commands
) - {"distiller"}
"""Options without effect where no teacher is used."""


def check_together(
    *,
    data: DataConfig,
    augmentation: AugmentationConfig,
    labels: LabelConfig,
    networks: NetworkConfig,
    distillation: DistillationConfig,
    schedule: ScheduleConfig,
    devices: DeviceConfig,
    output: OutputConfig,
) -> None:
    """Checks the options of a run against each other.

    Raises:
        InputError: For the first rule that is broken.
    """
    for fault in (
        *_schedule(schedule),
        *_weights(networks, output),
        *_devices(devices, distillation),
        *_sharding(devices, distillation, output),
        *_folder(output),
        *(() if output.evaluate else _labels(data, distillation)),
        *(() if output.evaluate else _use_of_labels(labels, data, distillation)),
        *_mixing(augmentation, distillation),
        *_teacher_views(augmentation, labels, data, distillation, devices),
    ):
        raise InputError(fault)


def check_teacher_is_used(config: DistillationConfig, given: Collection[str]) -> None:
    """Checks that no option of a teacher was given where the run has none.

    A configuration may hold such options, as a file shared by several runs does; it is what the
    user writes for one run that must not be without effect.

    Args:
        config: Of a run that trains.
        given: Names of the options that the user wrote.

    Raises:
        InputError: For the first such option.
    """
    unused = sorted(TEACHER_OPTIONS.intersection(given))
    if config.distiller == "none" and unused:
        raise InputError(
            f"`{unused[0]}` has no effect: with `distiller=none` there is no teacher; leave it "
            "out, or choose another `distiller`"
        )


def check_schedule_is_used(config: ScheduleConfig, given: Collection[str]) -> None:
    """Checks that no option of the optimizer was given that the chosen one does not have.

    Args:
        config: Of a run that trains.
        given: Names of the options that the user wrote.

    Raises:
        InputError: For the first such option.
    """
    if config.opt != "sgd" and "momentum" in given:
        raise InputError(
            f"`momentum` (={config.momentum}) has no effect with `opt={config.opt}`, which has its "
            "own; leave it out, or use `opt=sgd`"
        )
    if not config.model_ema and "model_ema_decay" in given:
        raise InputError(
            f"`model_ema_decay` (={config.model_ema_decay}) has no effect without `model_ema`; "
            "give both or none"
        )


def check_learning_rate(*layers: Mapping[str, Any]) -> None:
    """Checks that no optimizer takes over a learning rate that was meant for another one.

    Args:
        layers: Options by name, as recipe, file and command line give them; the later ones win.

    Raises:
        InputError: If one names another optimizer and no rate, where an earlier one has a rate.
    """
    opt, rate = ScheduleConfig().opt, None
    for layer in layers:
        if "learning_rate" not in layer and rate is not None and layer.get("opt", opt) != opt:
            raise InputError(
                f"`opt={layer['opt']}` needs a learning rate of its own: the one given elsewhere "
                f"({rate}) is for {opt}; give `learning_rate` as well"
            )
        opt, rate = layer.get("opt", opt), layer.get("learning_rate", rate)


def _schedule(schedule: ScheduleConfig) -> Iterator[str]:
    if schedule.patience and schedule.keep_epoch == "last":
        yield (
            f"`patience` (={schedule.patience}) has no effect with `keep_epoch=last`, where no "
            "accuracy chooses the epoch; leave one of the two out"
        )
    if schedule.start_epoch >= schedule.total_epochs:
        yield (
            f"`start_epoch` (={schedule.start_epoch}) leaves nothing to train: epochs count from "
            f"0, and there are {schedule.total_epochs}; give more `epochs`"
        )


def _weights(networks: NetworkConfig, output: OutputConfig) -> Iterator[str]:
    if networks.pretrained and networks.use_pretrained == 0:
        yield "`pretrained` contradicts `use_pretrained=0`; give one of them"
    if output.evaluate and not networks.has_weights:
        yield "nothing to evaluate: give `student_resume=FILE` or `use_pretrained=1`"
    # The user's own code may load its weights itself.
    can_be_trained = networks.has_weights or is_code(networks.arch)
    if networks.prune_channels and not output.evaluate and not can_be_trained:
        yield (
            f"`prune_channels` (={networks.prune_channels}) needs a trained network, whose least "
            "important channels it removes; give `student_resume=RUN` or `use_pretrained=1`"
        )


def _labels(data: DataConfig, distillation: DistillationConfig) -> Iterator[str]:
    has_kd = distillation.asks_for_logits
    if data.unlabelled_batch and not data.unlabelled:
        yield f"`unlabelled_batch` (={data.unlabelled_batch}) has no effect without `unlabelled`"
    if (data.unlabelled or data.label_free) and distillation.distiller == "none":
        option = "label_free" if data.label_free else "unlabelled"
        yield (
            f"`{option}` needs a teacher: without one nothing is learned from images without "
            "labels; use mgd distill"
        )
    elif data.label_free and not has_kd:
        yield (
            "`label_free` needs the loss on the logits, since nothing else trains the student's "
            "last layer; give `mgd_with_kd=1` or `distiller=kd`"
        )
    if data.label_free and (data.unlabelled or data.train_images):
        option = "unlabelled" if data.unlabelled else "train_images"
        yield f"`{option}` has no effect with `label_free`, where no image has a label"
    if distillation.distiller != "none" and distillation.ce_weight == 0 and not has_kd:
        yield (
            "`ce_weight=0` needs the loss on the logits, since nothing else trains the student's "
            "last layer; give `mgd_with_kd=1` or `distiller=kd`"
        )


def _use_of_labels(
    labels: LabelConfig, data: DataConfig, distillation: DistillationConfig
) -> Iterator[str]:
    in_the_loss = {
        f"label_smoothing={labels.label_smoothing}": labels.label_smoothing > 0,
        f"class_weights={labels.class_weights}": labels.class_weights != "none",
    }
    given = [
        *(text for text, is_given in in_the_loss.items() if is_given),
        *(["balanced_sampling"] if labels.balanced_sampling else []),
    ]
    if data.label_free and given:
        yield f"`{given[0]}` has no effect with `label_free`, where no image has a label"
    is_taught = distillation.distiller != "none"
    if is_taught and distillation.ce_weight == 0 and any(in_the_loss.values()):
        yield (
            f"`{given[0]}` has no effect with `ce_weight=0`: it concerns the cross-entropy alone; "
            "leave it out, or give a `ce_weight` above 0"
        )
    if labels.class_weights != "none" and labels.balanced_sampling:
        yield (
            f"`class_weights={labels.class_weights}` and `balanced_sampling` both make the classes "
            "count alike; together rare classes would count more than the others: give one of them"
        )


def _mixing(augmentation: AugmentationConfig, distillation: DistillationConfig) -> Iterator[str]:
    if augmentation.is_mixing and distillation.distiller != "none" and distillation.kd == "dkd":
        option = "mixup_alpha" if augmentation.mixup_alpha else "cutmix_alpha"
        yield (
            f"`{option}` gives an image several classes, but `kd=dkd` needs one of each; choose "
            "another `kd`, or leave the mixing out"
        )


def _teacher_views(
    augmentation: AugmentationConfig,
    labels: LabelConfig,
    data: DataConfig,
    distillation: DistillationConfig,
    devices: DeviceConfig,
) -> Iterator[str]:
    if not distillation.fixed_views:
        return
    views = f"`teacher_views` (={distillation.teacher_views})"
    if augmentation.is_mixing:
        option = "mixup_alpha" if augmentation.mixup_alpha else "cutmix_alpha"
        yield (
            f"{views} contradicts `{option}`, which mixes other images in every step, so that no "
            "answer is asked for twice; leave one of the two out"
        )
    if labels.balanced_sampling or data.unlabelled_batch:
        option = "balanced_sampling" if labels.balanced_sampling else "unlabelled_batch"
        yield (
            f"{views} contradicts `{option}`, with which an epoch does not show each image once, "
            "so that the teacher could not rest; leave one of the two out"
        )
    if devices.parallel == "dp":
        yield f"{views} does not work with DataParallel (`parallel=dp`); use `parallel=ddp`"
    if devices.shards_teacher:
        yield (
            f"{views} does not work with `parallel=fsdp`, whose processes run the teacher together "
            "while each looks for its own answers; use `parallel=ddp`"
        )


def _devices(devices: DeviceConfig, distillation: DistillationConfig) -> Iterator[str]:
    if devices.rank >= devices.world_size:
        yield f"`rank` (={devices.rank}) must be below `world_size` (={devices.world_size})"
    if devices.multiprocessing_distributed and devices.parallel not in ("auto", "ddp"):
        yield (
            f"`multiprocessing_distributed` contradicts `parallel` (={devices.parallel}); give "
            "one of them"
        )
    if devices.parallel == "dp" and distillation.mgd_tracking == "online":
        yield (
            "`mgd_tracking=online` does not work with DataParallel, which discards what its "
            "copies of a network collect; use `parallel=ddp` or `mgd_tracking=pass`"
        )
    if not _is_address(devices.dist_url):
        yield f"`dist_url` (={devices.dist_url}) must look like tcp://HOST:PORT, or be env://"


def _sharding(
    devices: DeviceConfig, distillation: DistillationConfig, output: OutputConfig
) -> Iterator[str]:
    if not devices.shards_teacher:
        return
    if output.evaluate or distillation.distiller == "none":
        yield (
            "`parallel=fsdp` shares out the teacher of mgd distill, and only there; use "
            "`parallel=ddp`"
        )
    if devices.compile:
        yield (
            "`compile` does not work with `parallel=fsdp`, which swaps the teacher's weights "
            "during its forward; leave one of the two out"
        )


def _is_address(url: str) -> bool:
    try:
        address = urlparse(url)
        return address.scheme == "env" or (address.scheme == "tcp" and bool(address.port))
    except ValueError:  # a port that is no number, or an odd bracket
        return False


def _folder(output: OutputConfig) -> Iterator[str]:
    path = Path(output.experiment)
    if output.experiment and (not path.parts or ".." in path.parts or path.is_absolute()):
        yield (
            f"`experiment` (={output.experiment}) must be the name of a folder inside `output`; "
            "choose the place with `output`"
        )
