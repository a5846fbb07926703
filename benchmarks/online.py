"""Compares the matching from online tracking with the matching from a pass, on CIFAR-10.

Both are solved for the same student after every epoch. A pass runs both networks in eval mode over
training images; online tracking takes the features of the last training steps instead.

`python -m benchmarks.online --cifar FOLDER --weights FILE`, with weights of the teacher.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import mgd
from benchmarks.common import arguments, clock, keep
from mgd.data.folder import load_folder
from mgd.data.loading import EvalBatches, ImageDataset, TrainBatches, build_loader
from mgd.data.transforms import train_transform
from mgd.models.pairs import known_points
from mgd.views import Preprocess, View

VIEW = View.from_network("cifar_resnet20")
TEACHER, STUDENT = "cifar_resnet20", "cifar_resnet20_x0_5"
IMAGES, TRACKED, EPOCHS, BATCH = 2000, 1000, 6, 100


def shares(ours: list[Tensor], theirs: list[Tensor]) -> list[float]:
    """Returns for each point the share of teacher channels with the same student channel."""
    return [
        round(float((a[:, None] == b[None]).any(0).float().mean()), 3)
        for a, b in zip(ours, theirs, strict=True)
    ]


def measure(folder: Path, weights: str | None) -> list[dict[str, Any]]:
    """Trains with online tracking; after each epoch solves both ways and compares."""
    torch.manual_seed(0)
    splits = load_folder(folder).take(IMAGES, seed=0)
    batches = TrainBatches(IMAGES, BATCH, seed=0)
    train = build_loader(ImageDataset(splits.train, train_transform(VIEW), 0), batches, 0)
    plain = ImageDataset(splits.train, VIEW.transform(), 0)
    passes = build_loader(plain, EvalBatches(IMAGES, BATCH, seed=1), 0)
    normalize = Preprocess(VIEW)
    distiller = mgd.Distiller(
        mgd.create_model(TEACHER, 10, weights),
        mgd.create_model(STUDENT, 10),
        normalize(next(iter(passes))[0]),
        known_points(TEACHER, STUDENT),
    )
    parameters = distiller.learner.parameters()
    optimizer = torch.optim.SGD(parameters, 0.05, momentum=0.9, weight_decay=1e-4)
    rows = []
    for epoch in range(EPOCHS):
        train_epoch(distiller, optimizer, ((normalize(images), y) for images, y in train))
        batches.at(epoch + 1)
        loader = (normalize(images) for images, _ in passes)
        rows.append({"epoch": epoch + 1, **compare(distiller, loader)})
    return rows


def train_epoch(
    distiller: mgd.Distiller,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
) -> None:
    """Trains on all batches, and adds the last of them to the statistics of the points."""
    distiller.train()
    first_tracked = (IMAGES - TRACKED) // BATCH
    for step, (images, labels) in enumerate(batches):
        if step == first_tracked:
            for sums in distiller.points.running_sums():
                sums.reset()
        out = distiller(images, labels, track=step >= first_tracked)
        loss = F.cross_entropy(out.output, labels) + out.loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def compare(distiller: mgd.Distiller, loader: Iterable[Tensor]) -> dict[str, Any]:
    """Solves on what was tracked, then on a pass over images, and says how the two differ."""
    start = clock()
    distiller.solve_matching()
    online_seconds = clock() - start
    online = _matchings(distiller)
    start = clock()
    reports = mgd.update_matching(distiller, loader, TRACKED)
    pass_seconds = clock() - start
    return {
        "equal": shares(online, _matchings(distiller)),
        # The matching before was the online one: its cost on the statistics of the pass.
        "cost online": [round(report.cost_before, 4) for report in reports],
        "cost pass": [round(report.cost_after, 4) for report in reports],
        "seconds online": round(online_seconds, 3),
        "seconds pass": round(pass_seconds, 3),
    }


def _matchings(distiller: mgd.Distiller) -> list[Tensor]:
    return [point.matcher.matching.clone() for point in distiller.points.matched()]


def main() -> None:
    """Measures, if there is a CIFAR-10 folder and a file of the teacher's weights."""
    options = arguments(__doc__, rounds=1, cifar="BENCH_CIFAR", weights="BENCH_WEIGHTS")
    if not options.cifar or not options.weights:
        print("online: skipped, it needs --cifar FOLDER and --weights FILE of cifar_resnet20")
        return
    start = time.perf_counter()
    rows = measure(Path(options.cifar), options.weights)
    setting = f"{TEACHER} -> {STUDENT}, {IMAGES} images an epoch, {TRACKED} tracked"
    found = {"setting": setting, "rows": rows, "seconds": round(time.perf_counter() - start)}
    keep("online", "python -m benchmarks.online --cifar FOLDER --weights FILE", found)


if __name__ == "__main__":
    main()
