"""Environment: the command, the packages and the machine that a run is made with."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.dp import DataParallelStrategy

from mgd import ranks
from mgd.runfolder import Start

_ALWAYS = ("torchvision", "numpy", "scipy", "lightning-fabric", "torchmetrics")
_WHERE_IMPORTED = ("timm", "transformers")
"""They may be installed without a part in the run, and take seconds to import."""
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def describe_start(fabric: Fabric, command: Sequence[str], epoch: int, step: int) -> Start:
    """Returns how a run is started here; every rank must call it.

    Environment variables, the name of the machine and that of its user are no part of it. Of an
    address in the command, such as `tcp://name:password@host`, name and password are left out.

    Args:
        fabric: Launched.
        command: Words of the command line.
        epoch: The run begins, or goes on, with this epoch,
        step: after so many steps of it.
    """
    devices = [name for names in ranks.gather_objects(_devices(fabric)) for name in names]
    return Start(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        epoch=epoch,
        step=step,
        command=[_CREDENTIALS.sub("***", word) for word in command],
        versions=_versions(bool(devices)),
        system=platform.platform(),
        processor=_processor(),
        cores=num_cores(),
        devices=devices,
        processes=fabric.world_size,
        threads=torch.get_num_threads(),
        commit=_commit(),
    )


def num_cores() -> int:
    """Returns how many cores this process may use, which `taskset` or a container may limit."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _devices(fabric: Fabric) -> list[str]:
    """Returns the names of this process's GPUs."""
    strategy = fabric.strategy
    own = [fabric.device]
    if isinstance(strategy, DataParallelStrategy):
        own = list(strategy.parallel_devices or own)
    return [torch.cuda.get_device_name(device) for device in own if device.type == "cuda"]


def _versions(on_gpu: bool) -> dict[str, str]:
    found = {
        "mgd": version("matching-guided-distillation"),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if on_gpu:
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    imported = (name for name in _WHERE_IMPORTED if name in sys.modules)
    return found | {name: version(name) for name in (*_ALWAYS, *imported)}


def _processor() -> str:
    """Returns the name of the processor; Python itself knows it on few systems."""
    listed = Path("/proc/cpuinfo")  # on Linux
    if listed.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", listed.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Returns the commit of the git repository around the current folder, if there is one."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git here, or one that waits for a disk
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
