"""Online tracking: the steps before an update feed it, and no pass is made for it."""

import json

import pytest
import torch

import mgd
from engine.loop.test_trainer import CutAt, PowerCutError, rows_of, same_state
from engine.loop.test_watch import infinite_term, spoil
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.run import train
from mgd.engine.tasks import distillation
from mgd.engine.tasks.tracking import OnlineTracking
from mgd.method.rematch import RematchSchedule

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture
def online(fast_distillation):
    """Epochs of three steps of 10 images; an update looks at the last two."""
    return fast_distillation.replace(mgd_tracking="online", mgd_images=20, epochs=3)


def tracked_steps(config, distiller, every=1):
    tracking = OnlineTracking(config, distiller, RematchSchedule(every), num_steps=3)
    found = []
    for epoch in range(config.schedule.total_epochs):
        for step in range(3):
            tracking.begin_step(epoch, step)
            if tracking.is_on:
                found.append((epoch, step))
        tracking.end_epoch()
    return found


@pytest.fixture
def distiller():
    teacher = mgd.create_model("cifar_resnet8_x0_5", 10)
    student = mgd.create_model("cifar_resnet8_x0_25", 10)
    images = torch.randn(6, 3, 8, 8)
    return mgd.Distiller(
        teacher, student, points=[("layer2.0.relu", "layer2.0.relu")], example=images
    )


def test_the_last_steps_before_an_update_are_tracked_and_those_of_the_last_epoch_never(
    online, distiller
):
    assert tracked_steps(online, distiller) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert tracked_steps(online, distiller, every=2) == [(1, 1), (1, 2)]
    assert tracked_steps(online, distiller, every=0) == []
    assert tracked_steps(online.replace(mgd_tracking="pass"), distiller) == []
    assert len(tracked_steps(online.replace(mgd_images=1000), distiller)) == 6


@pytest.fixture
def passes(monkeypatch):
    """How many images each pass over images was to look at."""
    passes = []

    def spy(distiller, images, max_images):
        passes.append(max_images)
        return mgd.update_matching(distiller, images, max_images)

    monkeypatch.setattr(distillation, "update_matching", spy)
    return passes


def test_only_the_first_update_makes_a_pass(online, passes):
    folder = train(online).folder
    assert passes == [20]
    last = json.loads((folder / "matching.json").read_text())
    assert last["epoch"] == 2
    assert [point["images"] for point in last["points"]] == [20, 20, 20]
    train(online.replace(mgd_tracking="pass", experiment="pass"))
    assert passes == [20] * 4


def test_where_every_tracked_step_was_skipped_the_update_makes_a_pass(online, monkeypatch, passes):
    spoil(monkeypatch, {2, 3}, infinite_term)
    folder = train(online.replace(on_nan="skip")).folder
    assert passes == [20, 20]
    assert [row["skipped_steps"] for row in rows_of(folder)] == ["2", "0", "0"]


def test_a_step_adds_the_distances_of_its_own_features(distiller):
    images = torch.randn(6, 3, 8, 8)
    features = []
    distiller.learner.tapped_student.register_forward_hook(
        lambda m, a, out: features.append(out[0][0])
    )
    distiller.frozen_teacher.register_forward_hook(lambda m, a, out: features.append(out[0][0]))
    (point,) = distiller.points
    point.matcher.reset()
    distiller.train()(images)
    assert not point.matcher.image_count
    features.clear()
    losses = distiller(images, track=True).point_losses
    wanted = mgd.channel_distance(features[1].detach(), features[0])
    torch.testing.assert_close(point.matcher.compute(), wanted)
    assert losses.requires_grad
    assert not point.matcher.distance_sum.requires_grad
    distiller(images)
    assert point.matcher.image_count == 6


@pytest.mark.parametrize("cut", [(0, 2), (1, None), (1, 1)])
def test_a_resumed_run_ends_as_if_nothing_had_happened(online, cut):
    config = online.replace(checkpoint_every=1, print_freq=1)
    whole = train(config.replace(experiment="whole")).folder
    parted = config.replace(experiment="parted")
    with pytest.raises(PowerCutError):
        train(parted, CutAt(*cut))
    folder = train(parted.replace(resume="auto")).folder
    assert rows_of(folder) == rows_of(whole)
    states = (load_checkpoint(path / "last.ckpt") for path in (folder, whole))
    assert same_state(*states) == set()
