"""Compares the matching of online tracking with that of a pass, for one student, on CIFAR-10."""

import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import mgd
from benchmarks.common import arguments, clock, keep
from mgd.data.folder import load_folder
from mgd.data.loading import EvalBatches, ImageDataset, TrainBatches, build_loader
from mgd.data.transforms import Normalize, eval_transform, train_transform
from mgd.method.rematch import solve_matching
from mgd.models.pairs import known_points

TEACHER, STUDENT = "cifar_resnet20", "cifar_resnet20_x0_5"
IMAGES, TRACKED, EPOCHS, BATCH = 2000, 1000, 6, 100


def shares(ours: list[Tensor], theirs: list[Tensor]) -> list[float]:
    """Returns, a point, the share of teacher channels with the same student channel."""
    return [
        round(float((a[:, None] == b[None]).any(0).float().mean()), 3)
        for a, b in zip(ours, theirs, strict=True)
    ]


def measure(folder: Path, weights: str | None) -> list[dict[str, Any]]:
    """Trains with online tracking; after each epoch solves both ways and compares."""
    torch.manual_seed(0)
    splits = load_folder(folder).take(IMAGES, seed=0)
    teacher = mgd.create_model(TEACHER, 10, weights)
    student = mgd.create_model(STUDENT, 10)
    normalize = Normalize()
    batches = TrainBatches(IMAGES, BATCH, seed=0)
    train = build_loader(ImageDataset(splits.train, train_transform(32), 0), batches, 0)
    plain = ImageDataset(splits.train, eval_transform(32), 0)
    passes = build_loader(plain, EvalBatches(IMAGES, BATCH, seed=1), 0)
    example = normalize(next(iter(passes))[0])
    distiller = mgd.Distiller(teacher, student, known_points(TEACHER, STUDENT), example=example)
    parameters = [p for p in distiller.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, 0.05, momentum=0.9, weight_decay=1e-4)
    weight = mgd.point_weights(3) / 307  # what --loss-factor auto is here
    rows = []
    for epoch in range(EPOCHS):
        distiller.train()
        for step, (images, labels) in enumerate(train):
            distiller.tracking = step >= (IMAGES - TRACKED) // BATCH
            if step == (IMAGES - TRACKED) // BATCH:
                for point in distiller.matched_points():
                    point.matcher.reset()
            logits, losses, _ = distiller(normalize(images))
            loss = F.cross_entropy(logits, labels) + (losses @ weight).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        distiller.tracking = False
        batches.at(epoch + 1)
        start = clock()
        online = _solved(distiller)
        online_seconds = clock() - start
        start = clock()
        loader = (normalize(images) for images, _ in passes)
        reports = mgd.update_matching(distiller, loader, TRACKED)
        pass_seconds = clock() - start
        rows.append(
            {
                "epoch": epoch + 1,
                "equal": shares(online, _matchings(distiller)),
                # The matching before was the online one: its cost on the statistics of the pass.
                "cost online": [round(report.cost_before, 4) for report in reports],
                "cost pass": [round(report.cost_after, 4) for report in reports],
                "seconds online": round(online_seconds, 3),
                "seconds pass": round(pass_seconds, 3),
            }
        )
    return rows


def _solved(distiller: mgd.Distiller) -> list[Tensor]:
    solve_matching(distiller)
    return _matchings(distiller)


def _matchings(distiller: mgd.Distiller) -> list[Tensor]:
    return [point.matcher.matching.clone() for point in distiller.matched_points()]


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
