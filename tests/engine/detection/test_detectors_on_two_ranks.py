"""Two ranks train a detector as one would: same weights on both, every image measured once."""

from functools import partial
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.detection import RetinaNet

from boxed import write_voc
from engine.detection.test_detector_runs import ARCH
from engine.loop.test_trainer import rows_of
from engine.loop.test_two_ranks import CutError, cut, ends_of, on_two_ranks
from mgd import ranks
from mgd.data.boxes_by_place import load_boxes
from mgd.engine.detection.detectors import Detector
from mgd.engine.detection.pipeline import BoxPipeline
from mgd.engine.detection.work import DetectorWork, train_detector
from mgd.engine.loop.runlog import Reporter
from mgd.engine.loop.work import run_work
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.devices import launch
from mgd.runfolder import read_boxes, read_run

PARTS = {"train": 7, "val": 5, "test": 3}
"""Odd numbers: the ranks have shares of different sizes of every part, and of the batches."""


@pytest.fixture
def folder(tmp_path):
    return write_voc(tmp_path / "voc", PARTS)


@pytest.fixture
def two_ranks(folder, tmp_path, free_port, forked_ranks):
    return RunConfig().replace(
        data=str(folder), arch=ARCH, size=64, batch_size=4, epochs=2, workers=0, devices=2,
        learning_rate=0.01, output=str(tmp_path / "runs"), tensorboard=0, print_freq=1,
        parallel="ddp", dist_url=f"tcp://localhost:{free_port}", checkpoint_every=1,
    )  # fmt: skip


@pytest.fixture
def taught(two_ranks, tmp_path):
    alone = two_ranks.replace(devices=1, parallel="auto", output=str(tmp_path), epochs=1)
    teacher = train_detector(alone.replace(experiment="teacher")).folder
    return two_ranks.replace(
        distiller="mgd", teacher_resume=str(teacher), position_weights="boxes", mgd_images=5
    )


def runs(fabric, config):
    """Trains at once, and in two goes."""
    whole = ends_of(fabric, config.replace(experiment="whole"), make=DetectorWork)
    parted = config.replace(experiment="parted")
    with pytest.raises(CutError):
        ends_of(fabric, parted, partial(cut, number=4), make=DetectorWork)
    fabric.barrier()  # rank 0 has left the folder
    return whole, ends_of(fabric, parted.replace(resume="auto"), make=DetectorWork)


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("two_ranks", "fasterrcnn"),
        ("taught", "retinanet"),
        pytest.param("two_ranks", "retinanet", marks=pytest.mark.slow),
        pytest.param("taught", "fasterrcnn", marks=pytest.mark.slow),
        pytest.param("taught", "fcos", marks=pytest.mark.slow),
        pytest.param("two_ranks", "ssdlite", marks=pytest.mark.slow),
    ],
)
def test_both_ranks_have_the_same_weights_also_when_resumed(request, kind, head):
    """Faster R-CNN draws the boxes that it learns from, and each rank draws its own."""
    config = request.getfixturevalue(kind).replace(arch=ARCH.replace("retinanet", head))
    if head == "ssdlite":  # BatchNorm needs two images a rank: its last map is one pixel
        config = config.replace(batch_size=8, epochs=4)
    whole, resumed = on_two_ranks(config, runs)
    assert whole[0]["student"] == whole[1]["student"]
    assert resumed == whole
    folder = Path(config.output.output) / "whole"
    assert rows_of(folder) == rows_of(folder.with_name("parted"))
    assert {file.name for file in folder.iterdir()} == {
        ".lock", "args.yaml", "environment.json", "summary.csv", "result.json", "last.ckpt",
        "best.ckpt", "previous.ckpt", "student.safetensors", "boxes.json", "MODEL_CARD.md",
    } | ({"matching.json", "matching.csv"} if kind == "taught" else set())  # fmt: skip
    assert len(read_boxes(folder)) == PARTS["test"]


class Bright(nn.Module):
    """Finds the bright pixels of an image: one box, as sure as they are bright."""

    def forward(self, images):
        found = []
        for image in images:
            rows, columns = (image.mean(0) > 0.8).nonzero(as_tuple=True)
            is_there = len(rows) > 0
            corners = [[*map(min, (columns, rows)), *map(max, (columns + 1, rows + 1))]]
            found.append(
                {
                    "boxes": torch.tensor(corners).float() if is_there else torch.empty(0, 4),
                    "labels": torch.ones(int(is_there), dtype=torch.long),
                    "scores": image.std().reshape(1) if is_there else torch.empty(0),
                }
            )
        return found


def measured(fabric, config):
    """Measures on every rank; boxes as lists, which a launch hands over as they are."""
    splits = load_boxes(config.data.data)
    pipeline = BoxPipeline(config, fabric, splits)
    detector = Detector("retinanet/resnet18", Bright(), 64, "", tuple(splits.classes))
    found = pipeline.score(detector, "valid", keep=True)
    boxes = [each["boxes"].tolist() for each in found.found]
    numbers = (found.map, found.map_50, found.map_75, *found.per_class[:1])
    return ranks.gather_objects((numbers, found.images, boxes))


@pytest.mark.parametrize("images", [5, 1])
def test_every_image_is_measured_once(two_ranks, tmp_path, images):
    """With one image the second rank has none."""
    folder = write_voc(tmp_path / "more", {"train": 2, "val": images})
    config = two_ranks.replace(data=str(folder))
    one, other = on_two_ranks(config, measured)
    (alone,) = launch(config.replace(devices=1, parallel="single"), measured)
    assert one == other == alone
    numbers, counted, boxes = alone
    assert counted == len(boxes) == images
    assert all(0 < number <= 100 for number in numbers)


def boxes_that_arrive(fabric, config):
    """Trains an epoch; returns what reached the detector, on any rank and in the order of all."""
    seen, forward = [], RetinaNet.forward

    def spy(self, images, targets=None):
        if targets is not None:
            seen.extend(each["boxes"].tolist() for each in targets)
            seen.extend(image.flatten()[:8].tolist() for image in images)
        return forward(self, images, targets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RetinaNet, "forward", spy)
        run_work(fabric, config, make=DetectorWork, reporter=Reporter())
    return sorted(chain.from_iterable(ranks.gather_objects(seen)), key=str)


@pytest.mark.parametrize("kind", ["two_ranks", "taught"])
def test_boxes_and_images_keep_their_digits_in_half_precision(request, kind):
    """Fabric would hand them on in 8 bits: 171.5 px would become 171."""
    # At 64 px a convolution of the pyramid sees maps of one pixel, for which torch 2.14 leaves part
    # of the gradient in bfloat16 as the memory was on the CPU.
    config = request.getfixturevalue(kind).replace(epochs=1, size=128)
    plain = launch(
        config.replace(devices=1, parallel="single", experiment="plain"), boxes_that_arrive
    )
    half = config.replace(precision="bf16")
    alone = launch(half.replace(devices=1, parallel="single"), boxes_that_arrive)
    assert alone == plain
    assert on_two_ranks(half.replace(experiment="two"), boxes_that_arrive) == plain
    folder = Path(config.output.output) / "two"
    assert all(loss > 0 for loss in read_run(folder).epochs[0].losses.values())
