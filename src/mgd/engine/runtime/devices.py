"""Devices: from flags to a launched Fabric."""

import logging
import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlparse

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.dp import DataParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from mgd import ranks
from mgd.data.loading import mix
from mgd.engine.options.config import DeviceConfig, RunConfig
from mgd.errors import InputError, RunError

Result = TypeVar("Result")
PRECISIONS: dict[str, Literal["bf16-mixed", "16-mixed"]] = {
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
"""Fabric's names of the precisions that autocast brings."""


def launch(config: RunConfig, run: Callable[[Fabric, RunConfig], Result]) -> Result:
    """Calls `run` on every device that the flags ask for, and returns rank 0's result.

    Under torchrun this process is one rank already; otherwise DDP spawns its processes, and if
    one dies the others are ended and its error is raised here.
    """
    fabric = build_fabric(config.devices, config.distillation.mgd_tracking)
    if isinstance(fabric.strategy, DDPStrategy) and not _under_torchrun():
        try:
            sealed: _Sealed[Result] = fabric.launch(partial(_call, run=run, config=config))
        except ProcessRaisedException as error:
            # The error of a spawned process comes as text, its traceback in front.
            told = re.search(r"^mgd\.errors\.(\w+): (.*)", str(error), re.MULTILINE)
            if told is None:
                raise
            kind = RunError if told[1] == RunError.__name__ else InputError
            raise kind(told[2]) from error
        except ProcessExitedException as error:
            raise RunError(
                f"a process of the run died ({error}), the others were ended; go on from the last "
                "checkpoint with --resume auto"
            ) from error
        return sealed.value
    fabric.launch()
    return _call(fabric, run=run, config=config).value


class _Sealed(Generic[Result]):
    """Carries a value past Fabric, which takes collections apart but not frozen dataclasses."""

    def __init__(self, value: Result):
        self.value = value


def _call(
    fabric: Fabric, run: Callable[[Fabric, RunConfig], Result], config: RunConfig
) -> _Sealed[Result]:
    if not fabric.is_global_zero:  # which would say everything once more
        logging.getLogger("mgd").setLevel(logging.ERROR)
    try:
        return _Sealed(run(fabric, config))
    finally:
        ranks.leave()


def build_fabric(config: DeviceConfig, tracking: str = "pass") -> Fabric:
    """Chooses accelerator, strategy and precision.

    Raises:
        InputError: For devices that are not there or flags that contradict each other.
    """
    gpus = torch.cuda.device_count()
    if config.gpu is not None and not gpus:
        raise InputError(
            f"`gpu` (={config.gpu}) is not there: PyTorch sees no CUDA GPU; leave the option "
            "out to run without, or check CUDA_VISIBLE_DEVICES and the driver"
        )
    if config.gpu is not None and config.gpu >= gpus:
        raise InputError(
            f"`gpu` (={config.gpu}) is not there: PyTorch sees {gpus}, counted from 0; give one "
            f"from 0 to {gpus - 1}"
        )
    if config.precision == "fp16" and not gpus:
        raise InputError("`precision=fp16` needs a GPU; use bf16 or 32 on a CPU")
    if gpus and config.devices > gpus:
        raise InputError(
            f"`devices` (={config.devices}) is too high: PyTorch sees {gpus} of them; give at most "
            f"{gpus}, or 0 for all"
        )
    mode = _mode(config, gpus)
    strategy: Strategy | str = "auto"
    if mode == "dp":
        strategy = DataParallelStrategy()
        if tracking == "online":
            raise InputError(
                "`mgd_tracking=online` does not work with DataParallel, which `parallel=auto` "
                "chooses for several GPUs; use `parallel=ddp` or `mgd_tracking=pass`"
            )
    elif mode in ("ddp", "fsdp"):  # what is trained is wrapped in DDP with both
        strategy = _ddp(config, gpus)
    devices, num_nodes = _devices(config, gpus, mode), _num_nodes(config)
    if mode == "fsdp" and num_nodes == 1 and devices in (1, [config.gpu]):
        raise InputError(
            "`parallel=fsdp` shares the teacher out over several processes, and here is one; give "
            "`devices` of at least 2, or leave `parallel` out"
        )
    return Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        plugins=_Autocast(config.precision) if config.precision in PRECISIONS else None,
    )


class _Autocast(MixedPrecision):
    """Autocast, which rounds where a layer computes; what a network is given stays as it is.

    Fabric would round that as well. Of the coordinate 171.5 of a box 171 would be left, and a
    student would see another image than its teacher, which is called outside of Fabric.

    Args:
        precision: Of the run.
    """

    def __init__(self, precision: str):
        device = "mps" if torch.backends.mps.is_available() else "cpu"
        super().__init__(PRECISIONS[precision], "cuda" if torch.cuda.is_available() else device)

    def convert_input(self, data: Any) -> Any:
        """Returns what a network is given."""
        return data


def _mode(config: DeviceConfig, gpus: int) -> str:
    """Resolves --parallel auto; the seed's default is DataParallel where several GPUs are seen."""
    if config.parallel != "auto":
        return config.parallel
    if config.multiprocessing_distributed or config.world_size > 1 or _under_torchrun():
        return "ddp"
    if config.gpu is not None:
        return "single"
    if gpus > 1 and config.devices != 1:
        return "dp"
    return "ddp" if not gpus and config.devices > 1 else "single"


def _devices(config: DeviceConfig, gpus: int, mode: str) -> int | list[int]:
    if _under_torchrun():
        return int(os.environ["LOCAL_WORLD_SIZE"])
    if config.gpu is not None:
        return [config.gpu]
    if mode == "single":
        return 1
    return config.devices or max(1, gpus)


def _ddp(config: DeviceConfig, gpus: int) -> DDPStrategy:
    if not _under_torchrun():
        address = urlparse(config.dist_url)
        if address.scheme == "tcp":
            os.environ["MASTER_ADDR"] = address.hostname or "localhost"
            os.environ["MASTER_PORT"] = str(address.port)
        os.environ["NODE_RANK"] = str(config.rank)
    backend = config.dist_backend
    if backend == "auto":
        backend = "nccl" if gpus else "gloo"
    if backend == "nccl" and not gpus:
        raise InputError("`dist_backend=nccl` needs GPUs; use gloo on CPUs")
    method = "popen" if _under_torchrun() else "spawn"
    return DDPStrategy(
        process_group_backend=backend,
        start_method=method,  # type: ignore[arg-type]  # Fabric narrows it to a Literal
        # Rank 0's buffers are shared once an epoch, where they are read; see the trainer.
        broadcast_buffers=False,
    )


def _num_nodes(config: DeviceConfig) -> int:
    if _under_torchrun():
        return int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"])
    return config.world_size


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seeds torch, so that what a step draws is a function of these numbers alone."""
    value = mix(mix(seed, epoch, step), rank, 0)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(value)


def _under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ
