"""Shared by the benchmarks: timing in turns, peak memory, the machine, and the file of results."""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

Step = Callable[[], Any]
_BLOCK = re.compile(r"<!-- (\S+) -->\n.*?<!-- end -->", re.DOTALL)
RESULTS = Path(__file__).with_name("results.json")
# On a shared machine, wall-clock time includes the work of others; a thread's CPU time does not.
CPU_TIME = os.environ.get("BENCH_CPU_TIME") == "1"
WALL = "wall"
CLOCK = "CPU time of one thread" if CPU_TIME else WALL
if CPU_TIME:
    torch.set_num_threads(1)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PAIRS = {
    "resnet50 -> mobilenet_v1": ("resnet50", "mobilenet_v1"),
    "resnet50 -> mobilenet_v2_eccv": ("resnet50", "mobilenet_v2_eccv"),
    "resnet50 -> shufflenet_v2": ("resnet50", "shufflenet_v2"),
    "resnet152 -> resnet50": ("resnet152", "resnet50"),
}
"""The four pairs of the paper."""


def interleaved(steps: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
    """Times every step once a round, in turn, so that other work slows all alike; seconds."""
    for step in steps.values():  # the first calls are slower
        step()
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            _wait()
            start = clock()
            step()
            _wait()
            seconds[name].append(clock() - start)
    return seconds


def clock() -> float:
    """Returns seconds: wall-clock time, or with BENCH_CPU_TIME=1 the CPU time of this process."""
    return time.process_time() if CPU_TIME else time.perf_counter()


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def median(values: Iterable[float]) -> float:
    """Returns the median, to four digits."""
    return float(f"{statistics.median(values):.4g}")


def ratio(above: list[float], below: list[float]) -> float:
    """Returns the median of the rounds' ratios."""
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 3)


def peak_memory(step: Step, state: Iterable[Tensor]) -> float:
    """Returns the most memory, MB, that a step has allocated at once, its state included.

    Args:
        step: Run twice, so that everything that outlives a step exists before it is measured.
        state: Tensors that exist before the step: parameters, gradients, buffers, momentum.
    """
    step()
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    # Both are set once the profiler has run, as it has here.
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [event for event in events if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in state}
    return round((most + sum(storage.nbytes() for storage in held.values())) / 1e6, 1)


def state_of(optimizer: torch.optim.Optimizer, *networks: nn.Module) -> list[Tensor]:
    """Returns every tensor that outlives a step."""
    tensors = [tensor for network in networks for tensor in network.state_dict().values()]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            tensors += [parameter, *([parameter.grad] if parameter.grad is not None else [])]
            kept = optimizer.state[parameter].values()
            tensors += [value for value in kept if isinstance(value, Tensor)]
    return tensors


def machine() -> dict[str, Any]:
    """Returns the machine and the versions that the figures were measured with."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if DEVICE == "cuda" else "none"
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": f"{memory:.0f} GB",
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def on_gpu(name: str) -> str:
    """Returns the key in `results.json` of a benchmark's figures from a GPU."""
    return f"{name}, GPU"


def _key(name: str) -> str:
    return name if DEVICE == "cpu" else on_gpu(name)


def kept(name: str) -> dict[str, Any]:
    """Returns the figures of a benchmark on this device in `results.json`, if it was ever run."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found: dict[str, Any] = results.get(_key(name), {})
    return found


def keep(name: str, command: str, found: Mapping[str, Any], clock: str = CLOCK) -> None:
    """Puts one benchmark's figures into `results.json`, beside those of the others."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[_key(name)] = {"machine": {**machine(), "clock": clock}, "command": command, **found}
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    print(json.dumps(found, indent=1))


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Returns a page with new text between each `<!-- NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: If a block has no place on the page, or a place no block.
    """
    if missing := blocks.keys() ^ set(_BLOCK.findall(text)):
        raise ValueError(f"places on the page and blocks differ in {', '.join(sorted(missing))}")
    return _BLOCK.sub(lambda m: f"<!-- {m[1]} -->\n{blocks[m[1]]}\n<!-- end -->", text)


def arguments(text: str | None, rounds: int, **folders: str) -> argparse.Namespace:
    """Reads `--rounds`, and folders, which may also come from the environment."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--rounds", type=int, default=rounds, help="measurements of each figure")
    for name, variable in folders.items():
        parser.add_argument(f"--{name}", default=os.environ.get(variable), help=f"also ${variable}")
    return parser.parse_args()
