"""TensorBoard: what its own reader finds in a run folder."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mgd.engine.logs.tensorboard import METRICS, open_events
from mgd.engine.loop.sample import SAMPLE
from mgd.engine.run import train
from mgd.runfolder import EpochRecord, read_epochs, read_result

pytest.importorskip("tensorboard")

PICTURE = "training images as the student sees them"


def read(folder):
    """Returns TensorBoard's own reader of the events of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    return events.Reload()


def session_of(events):
    """Returns the hyper-parameters, the metrics that go with them, and whether there is an end."""
    from tensorboard.plugins.hparams import metadata

    content = events.summary_metadata
    start, experiment, end = (
        content[tag].plugin_data.content if tag in content else b""
        for tag in (
            metadata.SESSION_START_INFO_TAG,
            metadata.EXPERIMENT_TAG,
            metadata.SESSION_END_INFO_TAG,
        )
    )
    hparams = metadata.parse_session_start_info_plugin_data(start).hparams
    metrics = metadata.parse_experiment_plugin_data(experiment).metric_infos
    plain = {
        name: value.number_value if value.HasField("number_value") else value.string_value
        for name, value in hparams.items()
    }
    return plain, [metric.name.tag for metric in metrics], bool(end)


@pytest.fixture
def folder(fast_distillation):
    return train(fast_distillation.replace(tensorboard=1)).folder


def test_every_column_of_the_summary_is_a_scalar(folder):
    events, rows = read(folder), [record.row() for record in read_epochs(folder)]
    columns = {*rows[0]}
    assert {"loss_ce", "valid_top1", "teacher_top1", "matching_cost"} < columns
    results = {name for name in events.Tags()["scalars"] if name.startswith("result/")}
    assert set(events.Tags()["scalars"]) == columns | results
    for name in columns:
        told = [(each.step, each.value) for each in events.Scalars(name)]
        assert told == [(row["epoch"], pytest.approx(row[name])) for row in rows]


def test_the_options_and_the_result_stand_in_the_same_event_file(folder, fast_distillation):
    (file,) = (folder / "tensorboard").iterdir()
    assert file.is_file()
    events = read(folder)
    hparams, metrics, has_ended = session_of(events)
    config = fast_distillation.flat()
    assert hparams.keys() == config.keys()
    assert hparams["arch"] == "cifar_resnet8_x0_25"
    assert hparams["batch-size"] == 10
    assert hparams["lr-drop-epochs"] == "31 61 81"
    assert hparams["evaluate"] == 0
    assert metrics == list(METRICS)
    assert has_ended
    result = read_result(folder)
    for name in ("valid_top1", "test_top1", "teacher_top1", "best_epoch"):
        (told,) = events.Scalars(f"result/{name}")
        assert told.value == pytest.approx(getattr(result, name))


def test_the_sample_shows_what_the_augmentation_does(fast_run, few_digits):
    folder = train(fast_run.replace(tensorboard=1, augment="shift", batch_size=30)).folder
    (image,) = read(folder).Images(PICTURE)
    assert image.step == 0
    content = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    picture = torch.tensor(content).permute(2, 0, 1)
    cells = [
        picture[:, top : top + 8, left : left + 8]
        for top in range(2, 2 + 4 * 10, 10)
        for left in range(2, 2 + 4 * 10, 10)
    ]
    assert len(cells) == SAMPLE
    shown = every_shift(few_digits.train)
    for cell in cells:
        assert any(torch.equal(cell, moved) for moved in shown)


def every_shift(split):
    """Returns every image of a split, moved by up to a pixel in every way."""
    images = [split.image(number) for number in range(len(split))]
    padded = [torch.nn.functional.pad(image, [1] * 4) for image in images]
    return [
        image[:, top : top + 8, left : left + 8]
        for image in padded
        for top in range(3)
        for left in range(3)
    ]


def test_a_run_that_goes_on_replaces_the_epochs_that_it_repeats(tmp_path):
    values = {"lr": 0.1, "train_top1": 1.0, "valid_loss": 1.0, "valid_top5": 1.0}
    values |= {"images_per_s": 1.0, "data_wait": 0.0, "seconds": 1.0, "losses": {"loss": 1.0}}
    for first, top1 in ((0, 10.0), (1, 20.0)):
        log = open_events(tmp_path, first)
        log.add_options({"arch": "resnet18", "holdout": None})
        for epoch in range(first, 3):
            log.add_epoch(EpochRecord(epoch=epoch, valid_top1=top1, **values))
        log.close()
    told = [(each.step, each.value) for each in read(tmp_path).Scalars("valid_top1")]
    assert told == [(0, 10.0), (1, 20.0), (2, 20.0)]
    assert session_of(read(tmp_path)) == ({"arch": "resnet18", "holdout": ""}, [*METRICS], False)


def test_without_tensorboard_there_are_no_events(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert open_events(tmp_path, 0) is None
