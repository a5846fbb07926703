"""Options of the devices: where and in which arithmetic a run computes."""

from dataclasses import dataclass
from typing import Literal

from mgd.engine.options.option import TRAINING, Group, Switch, option


@dataclass(frozen=True, kw_only=True)
class DeviceConfig(Group):
    """Devices."""

    devices: int = option(
        0,
        "number of GPUs on this node, or of CPU processes where there is no GPU; 0: all visible "
        "GPUs, or one process",
        least=0,
        brief="GPUs or CPU processes; 0: every GPU",
    )
    parallel: Literal["auto", "single", "dp", "ddp", "fsdp"] = option(
        "auto",
        "how several devices share the work. dp: one process for all GPUs (DataParallel); ddp: one "
        "process per device; fsdp: the same, and each holds a share of the teacher's weights, for "
        "mgd distill with a teacher that is too large for one device; single: one device. auto: dp "
        "for several GPUs, ddp for several CPU processes, several nodes and under torchrun, else "
        "single",
        train_text="how several devices share the work. dp: one process for all GPUs "
        "(DataParallel); ddp: one process per device; single: one device. auto: dp for several "
        "GPUs, ddp for several CPU processes, several nodes and under torchrun, else single",
    )
    precision: Literal["32", "bf16", "fp16"] = option(
        "32",
        "floating-point type of the networks; losses are always computed in 32 bits",
        brief="floating-point type of the networks",
    )
    teacher_precision: Literal["", "32", "bf16", "fp16"] = option(
        "",
        "floating-point type of the teacher; default: that of --precision",
        commands=("distill",),
    )
    fold_teacher: Switch = option(
        1,
        "1: merge the teacher's BatchNorms into its convolutions, which is faster and changes its "
        "output by about 1e-4",
        commands=("distill",),
    )
    compile: bool = option(
        False,
        "compile both networks with torch.compile",
        commands=TRAINING,
        train_text="compile the network with torch.compile",
    )
    channels_last: bool = option(False, "use the channels-last memory format")
    gpu: int | None = option(None, "number of the one GPU to use, counted from 0", least=0)
    world_size: int = option(1, "number of nodes", least=1)
    rank: int = option(0, "number of this node, counted from 0", least=0)
    dist_url: str = option(
        "tcp://localhost:10001", "address at which node 0 waits for the others", shown="URL"
    )
    dist_backend: Literal["auto", "nccl", "gloo"] = option(
        "auto",
        "library for the communication between processes; auto: nccl for GPUs, gloo for CPUs",
    )
    multiprocessing_distributed: bool = option(False, "the same as --parallel ddp")
    sync_bn: Switch = option(
        0, "1: compute BatchNorm statistics over all processes", commands=TRAINING
    )

    @property
    def shards_teacher(self) -> bool:
        """Whether each process holds a share of the teacher's weights."""
        return self.parallel == "fsdp"
