"""Comparing: what networks cost, measured side by side so that a busy machine slows all alike."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mgd.data.check import Watch, unwatched
from mgd.engine.tasks.classifier import Classifier, own_view, telling_of
from mgd.engine.tasks.trained import load_trained, metadata_of
from mgd.errors import InputError
from mgd.inside import logits_of
from mgd.models import assume_metadata, create_model, is_code, is_exported, published_classes
from mgd.models.exported import ExportedNetwork
from mgd.runfolder import Cost, Latency

BATCHES = (1, 32)
"""Images at a time: a single one, as when a user waits; and many, as in a batch job."""
LEAST_SECONDS = 0.02
"""A network is run at least so long in a round, since the clock and the system are coarse."""
_MOST_RUNS = 50
Clock = Callable[[], float]
Step = Callable[[], object]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network to compare."""

    classifier: Classifier
    """In eval mode, on the CPU."""
    classes: int
    """Number of its outputs."""
    file: Path | None
    """The file of its weights; None for a network by name, whose weights are random."""

    @property
    def kind(self) -> tuple[object, ...]:
        """What the latency depends on: candidates of the same kind are timed once."""
        found = self.classifier
        is_file = isinstance(found.network, ExportedNetwork)
        own = str(self.file) if is_file else found.name
        return own, self.classes, found.view.size, found.view.num_channels


def load_candidate(file: Path, arch: str = "", size: int = 0) -> Candidate:
    """Loads a trained network from a file.

    Args:
        file: As in `mgd.load_network`.
        arch: The network, where the file names none, or one that is code.
        size: Of its images, in pixels; 0: its own.

    Raises:
        InputError: If it cannot be loaded, or cannot run on images of its view.
    """
    if not is_exported(file):
        told = metadata_of(file)
        arch = arch if told is None or is_code(told.arch) else ""
    network, metadata = load_trained(file, arch)
    metadata = metadata or assume_metadata(arch or str(file), file)
    name = metadata.arch or arch
    view = metadata.view.replace(size=size or metadata.view.size)
    return _tried(Classifier(name, network, view, str(file), "its file"), file)


def build_candidate(name: str, num_classes: int = 0, size: int = 0) -> Candidate:
    """Builds a network by name, with random weights: its costs do not depend on them.

    Args:
        name: As in `mgd.create_model`.
        num_classes: 0: as its published weights have, or else 1000.
        size: Of its images, in pixels; 0: its own.

    Raises:
        InputError: If it cannot be built, or cannot run on images of its view.
    """
    network = create_model(name, num_classes or published_classes(name) or 1000).eval()
    view, view_from = own_view(name, network)
    view = view.replace(size=size or view.size)
    return _tried(Classifier(name, network, view, "random weights", view_from), None)


def _tried(classifier: Classifier, file: Path | None) -> Candidate:
    """Runs a network once, which also gives lazy layers their weights, and counts its outputs."""
    with telling_of(classifier, "size"), torch.inference_mode():
        outputs = logits_of(classifier.network(_images(classifier, 1)))
    return Candidate(classifier, outputs.shape[-1], file)


def _images(classifier: Classifier, batch: int) -> Tensor:
    side = classifier.view.size
    return torch.rand(batch, classifier.view.num_channels, side, side)


def measure_costs(
    candidates: Sequence[Candidate],
    *,
    rounds: int = 10,
    device: torch.device | str = "cpu",
    clock: Clock = time.perf_counter,
    watch: Watch = unwatched,
) -> list[Cost]:
    """Measures what networks cost. Candidates of the same kind have the same latency.

    Args:
        candidates: All are kept in memory at the same time.
        rounds: How often each is timed.
        device: Where they run.
        clock: Returns the time in seconds.
        watch: Passes on the rounds.

    Raises:
        InputError: If a network cannot run there.
    """
    device = torch.device(device)
    costs = [
        (each.classifier.num_parameters, multiply_adds(each), file_bytes(each))
        for each in candidates
    ]
    kinds = {each.kind: each for each in reversed(candidates)}
    keys = [(kind, batch) for batch in BATCHES for kind in kinds]
    with torch.inference_mode():
        steps = [_step(kinds[kind], batch, device) for kind, batch in keys]
        timed = time_side_by_side(steps, rounds, clock, watch)
    found = {key: latency_of(key[1], seconds) for key, seconds in zip(keys, timed, strict=True)}
    return [
        Cost(
            parameters=parameters,
            multiply_adds=operations,
            file_bytes=size,
            size=each.classifier.view.size,
            classes=each.classes,
            latencies=tuple(found[each.kind, batch] for batch in BATCHES),
        )
        for each, (parameters, operations, size) in zip(candidates, costs, strict=True)
    ]


def multiply_adds(candidate: Candidate) -> int | None:
    """Counts the multiply-adds for one image of the network's view.

    Counted are convolutions, matrix products and attention: half of what torch's FlopCounterMode
    finds, which counts a multiplication and an addition as two. `None` for an ONNX file, whose
    operations torch does not see.

    Example:
        >>> multiply_adds(build_candidate("cifar_resnet20", num_classes=10))
        40551040
    """
    classifier = candidate.classifier
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _attention_in_parts(), counter:
        classifier.network(_images(classifier, 1))
    return int(counter.get_total_flops()) // 2 or None


@contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Has attention computed by matrix products, since the counter misses the CPU's own kernels."""
    is_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fast)


def file_bytes(candidate: Candidate) -> int:
    """Returns the size of the file of weights, or of the safetensors file that they would make."""
    if candidate.file is not None:
        return candidate.file.stat().st_size
    state = candidate.classifier.network.state_dict()
    # Copies, since safetensors refuses tied weights that share memory.
    return len(save({name: value.clone().contiguous() for name, value in state.items()}))


def _step(candidate: Candidate, batch: int, device: torch.device) -> Step:
    """Returns what runs a network on a batch, and returns when the device is done."""
    classifier = candidate.classifier
    if device.type != "cpu" and isinstance(classifier.network, ExportedNetwork):
        raise InputError(
            f"'{candidate.file}' is an exported network, which computes on the CPU; give its run "
            "folder or weights, or leave out --device"
        )
    images = _images(classifier, batch).to(device)
    return partial(_run, classifier.network.to(device), images, device)


def _run(network: nn.Module, images: Tensor, device: torch.device) -> None:
    network(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # else the clock would stop before the work is done


def time_side_by_side(
    steps: Sequence[Step], rounds: int, clock: Clock, watch: Watch = unwatched
) -> list[list[float]]:
    """Times steps in turns, so that what else the machine does slows all of them alike.

    In a round each step is run once without the clock, which brings its data back into the caches,
    and then as often as `LEAST_SECONDS` need. Every second round has the reverse order.

    Args:
        steps: What to time.
        rounds: How often.
        clock: Returns the time in seconds.
        watch: Passes on the rounds.

    Returns:
        Of each step the seconds that it took in each round, a mean over the runs of that round.

    Example:
        >>> now = [0.0]
        >>> def work():
        ...     now[0] += 0.5
        >>> time_side_by_side([work], 3, lambda: now[0])
        [[0.5, 0.5, 0.5]]
    """
    for step in steps:  # the first run of all prepares what later ones use again
        step()
    runs = []
    for step in steps:
        once = max(_seconds(step, 1, clock), 1e-9)
        runs.append(min(_MOST_RUNS, math.ceil(LEAST_SECONDS / once)))
    found: list[list[float]] = [[] for _ in steps]
    for number in watch(range(rounds), rounds):
        places = range(len(steps))
        for place in reversed(places) if number % 2 else places:
            steps[place]()
            found[place].append(_seconds(steps[place], runs[place], clock))
    return found


def _seconds(step: Step, runs: int, clock: Clock) -> float:
    start = clock()
    for _ in range(runs):
        step()
    return (clock() - start) / runs


def latency_of(batch: int, seconds: Sequence[float]) -> Latency:
    """Returns the median and the quartiles of times.

    Args:
        batch: Images at a time.
        seconds: As `time_side_by_side` gives them.
    """
    times = [1000 * each for each in seconds]
    low = high = median = statistics.median(times)
    if len(times) > 1:
        low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(batch=batch, median=median, low=low, high=high)
