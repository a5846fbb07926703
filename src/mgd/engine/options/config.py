"""Configuration: what a run is, in frozen groups. The command line is made from their fields."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from mgd.engine.options.augmentation import AugmentationConfig
from mgd.engine.options.checks import check_together
from mgd.engine.options.data import DataConfig
from mgd.engine.options.detection import DetectionConfig
from mgd.engine.options.devices import DeviceConfig
from mgd.engine.options.distillation import DistillationConfig
from mgd.engine.options.labels import LabelConfig
from mgd.engine.options.networks import NetworkConfig
from mgd.engine.options.option import Group, Option, options_of
from mgd.engine.options.output import OutputConfig
from mgd.engine.options.schedule import LEARNING_RATES, ScheduleConfig
from mgd.engine.options.views import ViewConfig
from mgd.engine.options.yaml_file import read_yaml

__all__ = [
    "GROUPS",
    "OPTIONS",
    "AugmentationConfig",
    "DataConfig",
    "DetectionConfig",
    "DeviceConfig",
    "DistillationConfig",
    "LabelConfig",
    "NetworkConfig",
    "OutputConfig",
    "RunConfig",
    "ScheduleConfig",
    "ViewConfig",
    "read_yaml",
]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run: one field per group."""

    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    labels: LabelConfig = LabelConfig()
    views: ViewConfig = ViewConfig()
    networks: NetworkConfig = NetworkConfig()
    distillation: DistillationConfig = DistillationConfig()
    detection: DetectionConfig = DetectionConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    devices: DeviceConfig = DeviceConfig()
    output: OutputConfig = OutputConfig()

    def __post_init__(self) -> None:
        check_together(
            data=self.data,
            augmentation=self.augmentation,
            labels=self.labels,
            networks=self.networks,
            distillation=self.distillation,
            schedule=self.schedule,
            devices=self.devices,
            output=self.output,
        )

    def flat(self) -> dict[str, Any]:
        """Returns every option by its flag's name, in types that YAML has.

        `resume` is not among them: it says how a process began, not what the run is, and a run
        made anew from its options must begin at the beginning.
        """
        values = {}
        for group in dataclasses.fields(self):
            for name, value in vars(getattr(self, group.name)).items():
                values[name.replace("_", "-")] = list(value) if isinstance(value, tuple) else value
        del values["resume"]
        return values

    def replace(self, **values: Any) -> "RunConfig":
        """Returns a copy with some options changed, given by their field's name.

        Raises:
            InputError: For a value out of range.
            TypeError: For an unknown name.
        """
        if values.get("opt", self.schedule.opt) in LEARNING_RATES.keys() - {self.schedule.opt}:
            values.setdefault("learning_rate", LEARNING_RATES[values["opt"]])
        groups = {}
        for group in dataclasses.fields(self):
            old = getattr(self, group.name)
            mine = {name: values.pop(name) for name in vars(old) if name in values}
            groups[group.name] = dataclasses.replace(old, **mine)
        if values:
            raise TypeError(f"no option is called {', '.join(values)}")
        return RunConfig(**groups)

    @property
    def student_name(self) -> str:
        """The student's name, after the original's default."""
        return self.networks.arch or "mobilenet_v1"

    @property
    def teacher_name(self) -> str:
        """The teacher's name, after the published defaults."""
        default = "resnet152" if self.student_name == "resnet50" else "resnet50"
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
        squeezed = ["pruned"] * (self.networks.prune_channels > 0) + ["qat"] * self.networks.qat
        parts = [self.student_name, *squeezed, "base" if method == "none" else method]
        return "-".join(parts).replace(":", "-").replace("/", "-")


GROUPS: tuple[type[Group], ...] = tuple(
    type(getattr(RunConfig(), item.name)) for item in dataclasses.fields(RunConfig)
)
OPTIONS: dict[str, Option] = {
    option.name: option for group in GROUPS for option in options_of(group)
}
"""Every option by its field's name, group by group."""
