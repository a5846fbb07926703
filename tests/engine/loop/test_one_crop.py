"""Two networks of different sizes in one run: one crop for both, and each its own view of it."""

import pytest
import torch
from lightning_fabric import Fabric
from torchvision.transforms.v2 import functional as images_

import mgd
from engine.loop.test_trainer import CutAt, PowerCutError, rows_of
from mgd.data import load_splits
from mgd.data.loading import ImageDataset
from mgd.engine.loop.checkpoint import checksum, load_checkpoint
from mgd.engine.loop.pipeline import Pipeline, batches_of, cut_splits
from mgd.engine.run import train
from mgd.engine.tasks.building import build_task
from mgd.engine.tasks.classifiers import build_classifiers, with_names

pytestmark = pytest.mark.usefixtures("few_digits")

GREY = (0.5, 0.5, 0.5)
WHITE = (1.0, 1.0, 1.0)
PARTS = ("student", "distiller", "optimizer", "scheduler", "best")


@pytest.fixture
def two_sizes(fast_distillation):
    """A student that sees 8 px under a teacher that sees 16, each with its own normalisation."""
    return fast_distillation.replace(
        experiment="run", teacher_size=16, teacher_mean=GREY, teacher_std=WHITE, augment="cifar"
    )


@pytest.fixture
def photos(tmp_path):
    """A folder of noise, 60 px wide and 40 px high, of which a crop shows a part."""
    from PIL import Image

    for part in ("train", "valid"):
        for number, name in enumerate(("a", "b") * 4):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True, exist_ok=True)
            noise = torch.randint(256, (10, 15, 3), dtype=torch.uint8).numpy()
            Image.fromarray(noise).resize((60, 40)).save(folder / f"{number}.png")
    return tmp_path / "photos"


class Run:
    """What a run builds before it trains, with what its networks are shown."""

    def __init__(self, config):
        self.fabric = Fabric(accelerator="cpu", devices=1)
        config = with_names(config)
        found = load_splits(config.data.data)
        augment = found.augment if config.data.augment == "auto" else config.data.augment
        self.classifiers = build_classifiers(config, found.classes, augment, torch.device("cpu"))
        splits, _ = cut_splits(config, found, self.classifiers.classes)
        self.pipeline = Pipeline(config, self.fabric, splits, self.classifiers)
        self.seen = {"student": [], "teacher": []}
        for name, shown in self.seen.items():
            network = getattr(self.classifiers, name).network
            network.register_forward_pre_hook(lambda _, args, shown=shown: shown.append(args[0]))
        steps = self.pipeline.train_batches.num_batches
        images = self.pipeline.tracked_images
        example = self.pipeline.example()
        self.task = build_task(config, self.classifiers, example, steps, images)
        self.task.setup(self.fabric)

    def step(self):
        """Takes a training step; returns what the teacher and the student were shown."""
        for shown in self.seen.values():
            shown.clear()
        self.task.train()
        self.pipeline.train_batches.at(0)
        batch = next(batches_of(self.pipeline.train))
        self.task.losses(*self.pipeline.prepare(batch))
        return self.seen["teacher"][-1], self.seen["student"][-1]


def pixels(seen, view):
    """Undoes the normalisation, to values from 0 to 255."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (view.mean, view.std))
    return (seen * std + mean) * 255


@pytest.mark.parametrize("augment", ["imagenet", "cifar", "shift", "none"])
def test_both_see_the_same_region_and_flip_each_at_its_size_and_normalised(
    two_sizes, photos, augment
):
    config = two_sizes.replace(
        data=str(photos), train_images=0, augment=augment, size=16, teacher_size=48
    )
    run = Run(config)
    teacher, student = run.step()
    assert (teacher.shape[-1], student.shape[-1]) == (48, 16)
    crop = pixels(teacher, run.classifiers.teacher.view)
    small = images_.resize(crop, [16, 16], antialias=True)
    own = pixels(student, run.classifiers.student.view)
    torch.testing.assert_close(own, small, atol=0.01, rtol=0)
    if augment in ("imagenet", "cifar"):
        assert (own - small.flip(-1)).abs().max() > 10  # it would not fit if one were flipped


def test_a_larger_student_is_shown_more_than_its_teacher(two_sizes):
    run = Run(two_sizes.replace(size=16, teacher_size=8))
    teacher, student = run.step()
    crop = pixels(student, run.classifiers.student.view)
    small = images_.resize(crop, [8, 8], antialias=True)
    found = pixels(teacher, run.classifiers.teacher.view)
    torch.testing.assert_close(found, small, atol=0.01, rtol=0)


def test_the_loader_gives_uint8_at_the_larger_size(two_sizes):
    run = Run(two_sizes)
    for loader in (run.pipeline.train, run.pipeline.matching_images):
        images, _ = next(batches_of(loader))
        assert (images.dtype, images.shape[-1]) == (torch.uint8, 16)


@pytest.mark.parametrize("teacher_size", [8, 64])
def test_the_random_changes_are_those_of_the_student_without_a_teacher(
    two_sizes, photos, teacher_size
):
    """A student of at most 40 px is shown whole images, and is evaluated on whole images."""
    config = two_sizes.replace(data=str(photos), train_images=0, augment="auto")
    run = Run(config.replace(teacher_size=teacher_size))
    (kind,) = {type(step).__name__ for step in steps_of(run.pipeline.train.dataset)} & {
        "RandomCrop",
        "RandomResizedCrop",
    }
    assert kind == "RandomCrop"
    assert run.classifiers.student.view.crop == "squash"


def steps_of(dataset):
    assert isinstance(dataset, ImageDataset)
    return dataset.transform.transforms


def ends_of(config):
    """Trains; returns the checksums of what the run ends with, and its rows."""
    folder = train(config).folder
    state = load_checkpoint(folder / "last.ckpt")
    return {name: checksum(state[name]) for name in PARTS}, rows_of(folder)


@pytest.mark.parametrize("augment", ["cifar", "imagenet"])
def test_equal_views_train_as_a_single_view_does(fast_distillation, augment):
    """Bit by bit: with the teacher's view left to follow, or given value by value."""
    config = fast_distillation.replace(augment=augment, crop="squash", crop_pct=1.0)
    given = config.replace(
        **{"teacher_size": 8, "teacher_crop": "squash", "teacher_crop_pct": 1.0},
        teacher_mean=mgd.View().mean,
        teacher_std=mgd.View().std,
        teacher_interpolation="bilinear",
    )
    one = ends_of(config.replace(experiment="one"))
    assert ends_of(given.replace(experiment="two")) == one


def test_equal_views_give_both_networks_the_very_same_numbers(fast_distillation):
    teacher, student = Run(fast_distillation).step()
    assert torch.equal(teacher, student)


def test_the_matching_is_taken_from_each_networks_own_view(two_sizes):
    run = Run(two_sizes)
    for shown in run.seen.values():
        shown.clear()
    run.task.begin_epoch(0)
    teacher, student = (torch.cat(run.seen[name]) for name in ("teacher", "student"))
    assert (teacher.shape[-1], student.shape[-1]) == (16, 8)
    crop = pixels(teacher, run.classifiers.teacher.view)
    own = pixels(student, run.classifiers.student.view)
    small = images_.resize(crop, [8, 8], antialias=True)
    torch.testing.assert_close(own, small, atol=0.01, rtol=0)


def test_a_teacher_is_measured_with_its_own_resize_and_crop(two_sizes, photos):
    config = two_sizes.replace(
        data=str(photos), train_images=0, teacher_crop="center", teacher_crop_pct=0.5
    )
    run = Run(config.replace(teacher_interpolation="nearest"))
    for shown in run.seen.values():
        shown.clear()
    teacher = run.classifiers.teacher
    run.pipeline.score(teacher, "valid")
    found = torch.cat(run.seen["teacher"])
    valid = run.pipeline.splits.valid
    wanted = torch.stack([teacher.view(valid.image(number)) for number in range(len(valid))])
    torch.testing.assert_close(found, wanted)


def test_a_run_with_two_views_resumes_bit_by_bit(two_sizes):
    config = two_sizes.replace(checkpoint_every=1, print_freq=1, workers=0)
    whole = ends_of(config.replace(experiment="whole"))
    with pytest.raises(PowerCutError):
        train(config, CutAt(1, 2))
    assert ends_of(config.replace(resume="auto")) == whole


def test_workers_change_nothing_with_two_views(two_sizes):
    config = two_sizes.replace(epochs=1)
    here = ends_of(config.replace(experiment="here"))
    assert ends_of(config.replace(experiment="there", workers=2)) == here


def test_two_ranks_train_as_one_with_two_views(two_sizes, free_port, forked_ranks):
    config = two_sizes.replace(sync_bn=1, epochs=1)
    (one,) = ends_of(config.replace(experiment="one"))[1]
    address = f"tcp://localhost:{free_port}"
    (two,) = ends_of(config.replace(experiment="two", devices=2, dist_url=address))[1]
    # Only in this process the digits to validate are few.
    names = [name for name in one if name.startswith(("loss", "matching", "train"))]
    assert len(names) == 9
    for name in names:
        value = one[name]
        assert float(two[name]) == pytest.approx(float(value), rel=1e-5)


# Loaders of the parts.


def loader_of(run, classifier, part="valid"):
    return run.pipeline._part(part, classifier.view)


def test_the_students_loader_of_a_part_stays_and_the_teachers_does_not(two_sizes):
    run = Run(two_sizes.replace(workers=1))
    student, teacher = run.classifiers.student, run.classifiers.teacher
    assert loader_of(run, student) is loader_of(run, student)
    assert loader_of(run, student) is not loader_of(run, student, "test")
    assert loader_of(run, teacher) is not loader_of(run, teacher)


def test_views_that_differ_in_their_normalisation_alone_share_a_loader(fast_distillation):
    run = Run(fast_distillation.replace(teacher_mean=GREY))
    student, teacher = run.classifiers.student, run.classifiers.teacher
    assert loader_of(run, teacher) is loader_of(run, student)


def test_the_workers_of_the_teachers_part_end_with_its_measurement(two_sizes):
    import multiprocessing

    run = Run(two_sizes.replace(workers=1))
    before = set(multiprocessing.active_children())
    run.pipeline.score(run.classifiers.student, "valid")
    kept = set(multiprocessing.active_children()) - before
    assert len(kept) == 1
    run.pipeline.score(run.classifiers.teacher, "valid")
    assert set(multiprocessing.active_children()) - before == kept


def test_labels_follow_their_images_into_the_order_of_the_network(two_sizes, image_folder):
    config = two_sizes.replace(data=str(image_folder), train_images=0)
    found = load_splits(str(image_folder))
    plain, _ = cut_splits(config, found, found.classes)
    turned, _ = cut_splits(config, found, ("two", "more", "nought", "one"))
    names = [[part.classes[label] for label in part.valid.labels] for part in (plain, turned)]
    assert names[0] == names[1]
