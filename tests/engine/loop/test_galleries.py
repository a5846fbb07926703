"""A distilled run leaves feature maps: those of its networks, before and after training."""

import copy
import logging

import numpy as np
import pytest
import torch

import mgd
from engine.loop.test_trainer import CutAt, PowerCutError
from mgd.engine.loop import gallery as looked
from mgd.engine.loop import trainer
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.run import train
from mgd.engine.tasks import gallery as chosen
from mgd.engine.tasks.distillation import DistillationTask
from mgd.runfolder import read_gallery, read_run
from mgd.views import Preprocess

pytestmark = pytest.mark.usefixtures("few_digits")
IMAGES = [5, 15, 25, 35, 45, 55]
"""Of 60, the middles of six equal parts."""


@pytest.fixture
def at_the_start(monkeypatch):
    """Keeps both networks as they were when the gallery was begun."""
    kept = {}

    def begin(task, pipeline, folder):
        for role, network in (("student", task.student), ("teacher", task.distiller.teacher)):
            kept[role] = copy.deepcopy(network)
        looked.begin_gallery(task, pipeline, folder)

    monkeypatch.setattr(trainer, "begin_gallery", begin)
    return kept


def inputs_of(network, tap, images):
    """Returns what the tapped module of a network is given at its last call."""
    kept = []
    path = tap.removesuffix(":input")
    module = network.get_submodule(path)
    handle = module.register_forward_pre_hook(lambda _, args: kept.append(args[0].clone()))
    with torch.no_grad():
        network.eval()(images)
    handle.remove()
    return kept[-1]


def close(maps, expected):
    """To a step of the scale that the file has for a kind of maps."""
    expected = expected.numpy()
    assert maps.shape == expected.shape
    assert np.abs(maps - expected).max() <= np.abs(expected).max() / 127


def test_the_maps_are_those_of_the_networks(fast_distillation, few_digits, at_the_start):
    folder = train(fast_distillation.replace(epochs=3, learning_rate=0.05)).folder
    best = load_checkpoint(folder / "best.ckpt")
    gallery = read_gallery(folder)
    pictures = torch.stack([few_digits.valid.image(index) for index in IMAGES])
    assert np.array_equal(gallery.pictures, pictures.permute(0, 2, 3, 1).numpy())
    classes = [few_digits.classes[few_digits.valid.labels[index]] for index in IMAGES]
    assert gallery.labels == classes
    images = Preprocess(mgd.View(size=8))(pictures)
    student = mgd.create_model("cifar_resnet8_x0_25", 10)
    student.load_state_dict(best["student"])
    points = read_run(folder).points
    taps = [(each.teacher, each.student) for each in gallery.channels]
    assert list(dict.fromkeys(taps)) == [(point.teacher, point.student) for point in points]
    for place, point in enumerate(points):
        key = f"{place}."
        own = {n.removeprefix(key): v for n, v in best["distiller"].items() if n.startswith(key)}
        teacher = inputs_of(at_the_start["teacher"], point.teacher, images)
        first, last = (
            inputs_of(network, point.student, images)
            for network in (at_the_start["student"], student)
        )
        norm = torch.nn.BatchNorm2d(first.shape[1]).eval()
        norm.load_state_dict({n.removeprefix("norm."): v for n, v in own.items() if "norm." in n})
        shown = [c for c in gallery.channels if c.student == point.student]
        assert len({each.channel for each in shown}) == 3
        for each in shown:
            followed = own["matcher.matching"][:, each.channel]
            assert sorted(each.taught.followed) == sorted(followed.tolist())
            assert each.taught.groups == 2
            close(each.taught.teacher, teacher[:, each.taught.followed].transpose(0, 1))
            one, other = teacher[:, followed].unbind(1)
            target = torch.where(one.abs() > other.abs(), one, other)
            close(each.taught.target, target)
            deviation, mean = torch.std_mean(first[:, each.channel], correction=0)
            close(each.before, (first[:, each.channel] - mean) / deviation)
            with torch.no_grad():
                close(each.taught.after, norm(last)[:, each.channel])
            assert each.taught.margin == pytest.approx(float(own["margin"][followed].mean()))


def test_the_channels_are_the_nearest_the_middle_and_the_farthest(fast_distillation, monkeypatch):
    costs = []
    choose = chosen._chosen

    def spy(point):
        matcher = point.matcher
        distance = matcher.distance_sum / matcher.image_count
        pairs = [distance[s, matcher.matching[:, s]].mean() for s in range(len(distance))]
        costs.append(torch.stack(pairs))
        return choose(point)

    monkeypatch.setattr(chosen, "_chosen", spy)
    gallery = read_gallery(train(fast_distillation.replace(epochs=1)).folder)
    order = [cost.argsort().tolist() for cost in costs]
    found = [each.channel for each in gallery.channels]
    assert found[0::3] == [each[0] for each in order]
    assert found[2::3] == [each[-1] for each in order]
    ranks = [o.index(c) for o, c in zip(order, found[1::3], strict=True)]
    assert all(abs(rank - (len(o) - 1) / 2) <= 0.5 for rank, o in zip(ranks, order, strict=True))


def test_a_dead_channel_is_not_shown(fast_distillation, monkeypatch):
    def begin(task, pipeline, folder):
        matcher = task.distiller.points[0].matcher
        matcher.distance_sum[1:3] = 2 * matcher.image_count  # channel 0 and 3 are left, of 4
        looked.begin_gallery(task, pipeline, folder)

    monkeypatch.setattr(trainer, "begin_gallery", begin)
    gallery = read_gallery(train(fast_distillation.replace(epochs=1)).folder)
    first = gallery.channels[0].student
    assert {each.channel for each in gallery.channels if each.student == first} == {0, 3}


@pytest.mark.parametrize("place", [(0, 2), (0, None), (1, 1), (2, None)])
def test_a_run_that_was_cut_has_the_gallery_of_one_that_was_not(fast_distillation, place):
    config = fast_distillation.replace(epochs=3, checkpoint_every=1, print_freq=1)
    whole = train(config.replace(experiment="whole")).folder
    cut = config.replace(experiment="cut", resume="auto")
    with pytest.raises(PowerCutError):
        train(cut, CutAt(*place))
    folder = whole.with_name("cut")
    assert not read_gallery(folder).is_whole
    begun = (folder / "gallery.npz").read_bytes()
    train(cut)
    assert (folder / "gallery.npz").read_bytes() != begun
    assert (folder / "gallery.npz").read_bytes() == (whole / "gallery.npz").read_bytes()


def test_maps_that_are_not_finite_are_left_out_with_a_warning(
    fast_distillation, monkeypatch, caplog
):
    """As after a training that diverged; the page can be made nevertheless."""
    finish = DistillationTask.finish_gallery

    def diverged(self, images, begun):
        ended = finish(self, images, begun)
        ended.channels[0].taught.after[:] = np.nan
        return ended

    monkeypatch.setattr(DistillationTask, "finish_gallery", diverged)
    folder = train(fast_distillation).folder
    assert "not finite numbers: the report shows no feature maps" in caplog.text
    assert not read_gallery(folder).is_whole


def test_a_run_with_more_epochs_keeps_its_start(fast_distillation):
    config = fast_distillation.replace(experiment="run", resume="auto")
    first = read_gallery(train(config).folder)
    second = read_gallery(train(config.replace(epochs=4)).folder)
    assert second.is_whole
    for one, other in zip(first.channels, second.channels, strict=True):
        assert one.channel == other.channel
        assert np.array_equal(one.before, other.before)
    assert any(
        not np.array_equal(one.taught.after, other.taught.after)
        for one, other in zip(first.channels, second.channels, strict=True)
    )


def test_a_run_that_goes_on_in_another_folder_takes_it_along(fast_distillation):
    folder = train(fast_distillation.replace(experiment="run")).folder
    resume = str(folder / "last.ckpt")
    other = train(fast_distillation.replace(experiment="other", resume=resume, epochs=3)).folder
    one, two = read_gallery(folder), read_gallery(other)
    assert two.is_whole
    assert np.array_equal(one.channels[0].before, two.channels[0].before)


def test_other_images_leave_the_gallery_as_it_was_begun(fast_distillation, few_digits, caplog):
    config = fast_distillation.replace(epochs=3, experiment="run", resume="auto")
    with pytest.raises(PowerCutError):
        train(config, CutAt(1))
    few_digits.valid.indices = few_digits.valid.indices[::-1]
    try:
        with caplog.at_level(logging.WARNING):
            folder = train(config).folder
    finally:
        few_digits.valid.indices = few_digits.valid.indices[::-1]
    assert not read_gallery(folder).is_whole
    assert "not those that the run began with" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"distiller": "none", "teacher": "", "mgd_with_kd": 0},
        {"distiller": "kd", "mgd_with_kd": None},
        {"distiller": "ofd"},
        {"distiller": "fitnet"},
    ],
)
def test_a_run_without_a_matching_has_none(fast_distillation, changes):
    folder = train(fast_distillation.replace(epochs=1, **changes)).folder
    assert not (folder / "gallery.npz").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"mgd_reducer": "sm"},
        {"mgd_reducer": "rd", "mgd_solver": "random", "mgd_update_freq": 0},
        {"mgd_tracking": "online", "mgd_images": 10},
        {"channels_last": True},
        {"arch": "cifar_resnet8", "teacher": "cifar_resnet8_x0_25"},
        {"batch_size": 30, "train_images": 30, "holdout": 0.1},
    ],
)
def test_every_kind_of_matching_has_one(fast_distillation, changes):
    folder = train(fast_distillation.replace(**changes)).folder
    gallery = read_gallery(folder)
    assert gallery.is_whole
    one = changes.get("mgd_reducer") == "sm" or changes.get("arch") == "cifar_resnet8"
    assert {each.taught.groups for each in gallery.channels} == ({1} if one else {2})
    for each in gallery.channels:
        assert np.isfinite(each.taught.after).all()
        if one:
            assert np.array_equal(each.taught.teacher[0], each.taught.target)


def test_random_drop_is_drawn_alike_each_time(fast_distillation):
    config = fast_distillation.replace(mgd_reducer="rd", experiment="run", resume="auto")
    folder = train(config).folder
    first = (folder / "gallery.npz").read_bytes()
    train(config)  # nothing is left to train
    assert (folder / "gallery.npz").read_bytes() == first


def a_point(channels, side, groups):
    teacher = torch.nn.Sequential(torch.nn.Conv2d(3, channels * groups, 1), torch.nn.ReLU())
    student = torch.nn.Sequential(torch.nn.Conv2d(3, channels, 1), torch.nn.ReLU())
    images = torch.randint(256, (6, 3, side, side), dtype=torch.uint8)
    view = mgd.View(size=side)
    options = {"teacher_view": view, "student_view": view, "points": [("1", "1")]}
    return mgd.Distiller(teacher, student, images, **options), images


@pytest.mark.parametrize(("side", "groups"), [(224, 2), (96, 8), (40, 1)])
def test_large_maps_are_made_small(side, groups, tmp_path):
    distiller, images = a_point(4, side, groups)
    with distiller:
        begun = chosen.begin(distiller, images, list("abcdef"))
        gallery = chosen.finish(distiller, images, begun)
        looked.write_gallery(tmp_path, gallery)
    assert (tmp_path / "gallery.npz").stat().st_size < 300_000
    assert max(gallery.pictures.shape[1:3]) <= 64
    for each in gallery.channels:
        assert each.before.shape[1:] == each.taught.after.shape[1:]
        assert max(each.before.shape[1:]) <= 32
        assert len(each.taught.followed) == min(groups, 4)
        assert each.taught.groups == groups


def test_a_vector_has_no_map():
    """Features of a single position, as those before the last layer, show nothing."""
    teacher = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    teacher.append(torch.nn.Linear(3, 4)).append(torch.nn.Linear(4, 2))
    student = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    student.append(torch.nn.Linear(3, 4)).append(torch.nn.Linear(4, 2))
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    view = mgd.View(size=8)
    options = {"teacher_view": view, "student_view": view, "points": [("2:output", "2:output")]}
    with mgd.Distiller(teacher, student, images, **options) as distiller:
        assert chosen.begin(distiller, images, ["a", "b"]) is None


def test_the_maps_of_a_transformer_lie_over_the_image():
    timm = pytest.importorskip("timm")
    options = {"img_size": 32, "patch_size": 8, "depth": 2, "num_heads": 2, "num_classes": 3}
    teacher, student = (
        timm.create_model("vit_tiny_patch16_224", embed_dim=width, **options) for width in (32, 16)
    )
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    view = mgd.View(size=32)
    with mgd.Distiller(teacher, student, images, teacher_view=view, student_view=view) as distiller:
        gallery = chosen.finish(distiller, images, chosen.begin(distiller, images, ["a", "b"]))
    assert gallery.is_whole
    assert {each.before.shape for each in gallery.channels} == {(2, 4, 4)}
