"""Rules for runs of detectors: the options that they use, and what others may not say."""

from mgd.engine.options.checks import TEACHER_OPTIONS
from mgd.engine.options.config import OPTIONS, RunConfig
from mgd.engine.options.option import DETECTOR_COMMANDS, Command, Option
from mgd.errors import InputError

USED = frozenset(
    (
        *("data", "augment", "bit_depth", "batch_size", "workers", "size"),
        *("arch", "teacher", "teacher_resume", "student_resume", "use_pretrained"),
        *("distiller", "mgd_reducer", "mgd_update_freq", "mgd_images", "mgd_tracking"),
        *("mgd_solver", "points", "loss_factor", "feature_weight", "position_weights"),
        *("epochs", "start_epoch", "opt", "learning_rate", "momentum", "wd"),
        *("norm_weight_decay", "bias_weight_decay", "clip_grad_norm", "grad_accum_steps"),
        *("model_ema", "model_ema_decay", "lr_schedule", "lr_drop_epochs", "lr_drop_ratio"),
        *("warmup", "warmup_epochs", "seed", "on_nan", "keep_epoch", "patience"),
        *("devices", "parallel", "precision", "teacher_precision", "gpu", "world_size", "rank"),
        *("dist_url", "dist_backend", "multiprocessing_distributed"),
        *("output", "experiment", "resume", "checkpoint_every", "print_freq", "tensorboard", "log"),
    )
)
"""Options of a run that a run of detectors uses as well."""
_METHODS = ("none", "mgd", "mgd-adapter", "fitnet", "ofd")
POINTS = ("backbone", "pyramid", "auto")
"""What `--points` may say beside a file: the stages of the backbone, the levels of the pyramid, or
both."""


def is_listed(item: Option, command: Command) -> bool:
    """Tells whether the help of a command lists an option."""
    if command not in DETECTOR_COMMANDS:
        return command in item.commands
    is_used = item.name in USED
    return is_used and (command == "distill-detector" or item.name not in TEACHER_OPTIONS)


def check_detector(config: RunConfig) -> None:
    """Checks that no option is given that a run of detectors does not use.

    Raises:
        InputError: For the first such option, or a value that is for classifiers alone.
    """
    values = config.flat()
    for name, item in OPTIONS.items():
        default = list(item.default) if isinstance(item.default, tuple) else item.default
        if name not in USED and name not in ("resume", "evaluate"):
            value = values[name.replace("_", "-")]
            if value != default:
                raise InputError(
                    f"`{name}` (={value}) has no effect on detectors; leave it out (mgd "
                    "train-detector --help-all and mgd distill-detector --help-all list what has)"
                )
    if config.data.augment not in ("auto", "none"):
        raise InputError(
            f"`augment` (={config.data.augment}) is for classifiers; give auto (a crop and a flip, "
            "with the boxes) or none"
        )
    if config.distillation.distiller not in _METHODS:
        raise InputError(
            f"`distiller` (={config.distillation.distiller}) needs the scores of classes; for "
            f"detectors choose one of {', '.join(_METHODS)}"
        )
    if config.devices.parallel == "dp":
        raise InputError(
            "`parallel=dp` cannot cut a list of images for several devices; use `parallel=ddp`"
        )
    if config.devices.parallel == "fsdp":
        raise InputError(
            "`parallel=fsdp` shares out the teacher of a classifier; use `parallel=ddp`, with a "
            "whole teacher on each device"
        )
