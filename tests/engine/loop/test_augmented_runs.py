"""Runs with mixed images, learned augmentation and balanced classes: what is seen, and resumes."""

import pytest
import torch

from engine.loop import test_one_crop
from engine.loop.test_one_crop import Run, pixels
from engine.loop.test_trainer import CutAt, PowerCutError, rows_of, same_state
from mgd.data import load_splits
from mgd.data.splits import Subset
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.loop.meter import AccuracyMeter
from mgd.engine.loop.pipeline import batches_of
from mgd.engine.loop.sample import training_sample
from mgd.engine.run import train

pytestmark = pytest.mark.usefixtures("few_digits")

ALL = {
    "auto_augment": "ta_wide",
    "random_erase": 0.5,
    "mixup_alpha": 0.4,
    "cutmix_alpha": 1.0,
    "label_smoothing": 0.1,
}
"""Every option of the kind, but for those of the balance, of which there is one at a time."""


def ends_of(config, reporter=None):
    """Trains; returns the last checkpoint and the rows."""
    folder = train(config, reporter).folder
    return load_checkpoint(folder / "last.ckpt"), rows_of(folder)


@pytest.fixture
def unlike(few_digits, monkeypatch):
    """Digits of which there are 40 zeros and three of each other class."""
    from mgd.engine.loop import pipeline

    splits, kept, left = load_splits("digits"), [], {0: 40}
    for index, label in enumerate(splits.train.labels):
        if left.setdefault(label, 3):
            left[label] -= 1
            kept.append(index)
    made = type(splits)(
        splits.classes, Subset(splits.train, kept), few_digits.valid, few_digits.test
    )
    for module in (pipeline, test_one_crop):
        monkeypatch.setattr(module, "load_splits", lambda *_: made)
    return made


@pytest.mark.parametrize(
    ("balance", "cut"),
    [
        ({"balanced_sampling": True}, CutAt(1, 3)),
        ({"class_weights": "balanced", "mgd_tracking": "online"}, CutAt(0, 2)),
    ],
)
@pytest.mark.usefixtures("unlike")
def test_a_resumed_run_ends_bit_identical_and_workers_change_nothing(
    fast_distillation, balance, cut
):
    config = fast_distillation.replace(
        **ALL, **balance, train_images=0, batch_size=12, checkpoint_every=1, print_freq=1
    )
    state, rows = ends_of(config.replace(experiment="whole"))
    cut_short = config.replace(experiment="cut", workers=1)
    with pytest.raises(PowerCutError):
        train(cut_short, cut)
    torch.manual_seed(4)  # whatever the new process has drawn
    found, found_rows = ends_of(cut_short.replace(resume="auto"))
    assert same_state(found, state) == set()
    assert found_rows == rows


def test_every_option_changes_what_is_learned(fast_run, unlike):
    config = fast_run.replace(train_images=0, epochs=1, batch_size=20)
    options = [{}, {"balanced_sampling": True}, {"class_weights": "balanced"}]
    options += [{name: value} for name, value in ALL.items()]
    losses = [ends_of(config.replace(**each))[1][0]["loss"] for each in options]
    assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("alphas", [{"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}])
def test_teacher_and_student_see_the_same_mixed_image(fast_distillation, alphas):
    config = fast_distillation.replace(
        **alphas, augment="none", size=16, teacher_size=16, teacher_mean=(0.5, 0.5, 0.5)
    )
    run = Run(config)
    run.task.train()
    batch = next(batches_of(run.pipeline.train))
    images, labels = run.pipeline.prepare(batch, (0, 0))
    run.task.losses(images, labels)
    student, teacher = (
        pixels(run.seen[name][-1], getattr(run.classifiers, name).view)
        for name in ("student", "teacher")
    )
    torch.testing.assert_close(student, teacher, atol=0.01, rtol=0)
    torch.testing.assert_close(student, 255 * images, atol=0.01, rtol=0)
    assert (student - batch[0]).abs().max() > 10
    assert labels.shape == (len(batch[0]), 10)
    assert torch.equal(run.pipeline.prepare(batch)[0], batch[0])  # as in an evaluation


def test_mixing_stays_in_the_layout_of_the_run(fast_distillation):
    run = Run(fast_distillation.replace(mixup_alpha=0.4, channels_last=True))
    images, _ = run.pipeline.prepare(next(batches_of(run.pipeline.train)), (0, 0))
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_class_weights_are_those_of_the_labelled_images(fast_distillation, unlike):
    run = Run(fast_distillation.replace(class_weights="balanced", train_images=0))
    assert run.pipeline.class_weights.tolist() == pytest.approx([67 / 400] + [67 / 30] * 9)
    assert Run(fast_distillation).pipeline.class_weights is None


def test_the_accuracy_is_that_of_the_class_with_the_largest_share():
    meter = AccuracyMeter(["ce"])
    logits = torch.eye(3)
    shares = torch.tensor([[0.6, 0.4, 0.0], [0.7, 0.3, 0.0], [0.0, 0.0, 0.0]])
    meter.update(torch.ones(1, 3), logits, shares)
    assert meter.compute()["train_top1"] == 50.0


def test_the_picture_of_a_log_shows_mixed_images(fast_distillation):
    shown = {}
    for alpha in (0.0, 5.0):
        run = Run(fast_distillation.replace(augment="none", cutmix_alpha=alpha))
        shown[alpha] = training_sample(run.pipeline, run.classifiers.student.view, epoch=0)
    assert shown[0.0].shape == shown[5.0].shape
    assert shown[0.0].dtype == shown[5.0].dtype == torch.uint8
    assert not torch.equal(shown[0.0], shown[5.0])


def test_unlabelled_images_are_mixed_as_well(fast_distillation, image_folder, tmp_path):
    config = fast_distillation.replace(
        **ALL, data=str(image_folder), train_images=0, mgd_with_kd=1, balanced_sampling=True,
        unlabelled=(str(image_folder / "valid"),), batch_size=8,
    )  # fmt: skip
    _, rows = ends_of(config)
    assert all(float(row["loss_ce"]) > 0 and float(row["loss_kd"]) > 0 for row in rows)


def test_a_run_without_labels_may_mix(fast_distillation, image_folder):
    config = fast_distillation.replace(data=str(image_folder), train_images=0)
    own = config.replace(
        distiller="none", teacher="", mgd_with_kd=0, epochs=1, experiment="own",
        arch="cifar_resnet8_x0_5",
    )  # fmt: skip
    weights = train(own).folder / "student.safetensors"
    free = config.replace(
        label_free=True, holdout=0.3, batch_size=8, use_pretrained=None,
        teacher_resume=str(weights), mixup_alpha=0.4, cutmix_alpha=1.0, random_erase=0.2,
    )  # fmt: skip
    _, rows = ends_of(free)
    assert [float(row["loss_ce"]) for row in rows] == [0.0, 0.0]
    assert all(float(row["loss_kd"]) > 0 for row in rows)


def test_two_ranks_draw_the_epoch_of_one_and_mix_their_own_shares(
    fast_distillation, free_port, forked_ranks
):
    config = fast_distillation.replace(
        **ALL, epochs=1, devices=2, dist_url=f"tcp://localhost:{free_port}", balanced_sampling=True
    )
    _, rows = ends_of(config.replace(experiment="two"))
    assert float(rows[0]["loss"]) > 0


def test_two_ranks_without_mixing_train_as_one_on_balanced_classes(
    fast_distillation, free_port, forked_ranks
):
    config = fast_distillation.replace(
        epochs=1, sync_bn=1, balanced_sampling=True, label_smoothing=0.1, auto_augment="ra"
    )
    (one,) = ends_of(config.replace(experiment="one"))[1]
    address = f"tcp://localhost:{free_port}"
    (two,) = ends_of(config.replace(experiment="two", devices=2, dist_url=address))[1]
    for name in ("loss", "loss_ce", "loss_kd", "train_top1"):
        assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-5)
