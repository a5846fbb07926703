"""A step of the optimizer: gradients added up over batches, limited, and left out."""

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn

import mgd
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.loop.updates import Updates
from mgd.engine.options.config import ScheduleConfig
from mgd.engine.run import train
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.classifiers import Classifiers
from mgd.engine.tasks.label_term import LabelTerm
from mgd.engine.tasks.supervised import SupervisedTask
from mgd.views import Preprocess

VIEW = mgd.View(size=8)
PLAIN = {"momentum": 0.0, "wd": 0.0, "learning_rate": 1.0}


def a_task():
    """A network without BatchNorm, so that an image's gradient does not depend on its batch."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    student = Classifier("tiny", network, VIEW, "random weights", "")
    return SupervisedTask(Classifiers(student, None, ("a", "b", "c")), LabelTerm())


def updates_of(task, **options):
    fabric = Fabric(accelerator="cpu", devices=1)
    return Updates(fabric, task, ScheduleConfig(**options), num_steps=10)


def take_in(updates, task, images, labels, sizes):
    """Adds batches of these sizes up to the gradient of one step."""
    updates.begin()
    batches = list(zip(images.split(sizes), labels.split(sizes), strict=True))
    for number, batch in enumerate(batches, start=1):
        with updates.batch(is_last=number == len(batches)):
            _, terms = task.losses(*batch)
            updates.backward(torch.stack(list(terms.values())), len(images))


@pytest.fixture
def images():
    return torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8)


@pytest.fixture
def labels():
    return torch.randint(0, 3, (32,))


@pytest.mark.parametrize("sizes", [[32], [16, 16], [20, 12], [13, 13, 6]])
def test_batches_give_the_gradient_of_the_mean_over_all_their_images(images, labels, sizes):
    task = a_task()
    take_in(updates_of(task, grad_accum_steps=len(sizes)), task, images, labels, sizes)
    found = [weight.grad.clone() for weight in task.student.parameters()]
    loss = F.cross_entropy(task.student(Preprocess(VIEW)(images)), labels)
    expected = torch.autograd.grad(loss, list(task.student.parameters()))
    torch.testing.assert_close(found, list(expected), rtol=1e-4, atol=1e-6)


def test_a_step_forgets_the_gradient_of_the_one_before(images, labels):
    task = a_task()
    updates = updates_of(task)
    found = []
    for _ in range(2):
        take_in(updates, task, images, labels, [32])
        found.append([weight.grad.clone() for weight in task.student.parameters()])
    torch.testing.assert_close(found[0], found[1])


def moved_by(images, labels, **options):
    """Returns how far a step of plain gradient descent at rate 1 moves the weights."""
    task = a_task()
    before = nn.utils.parameters_to_vector(task.student.parameters()).clone()
    updates = updates_of(task, **PLAIN, **options)
    take_in(updates, task, images, labels, [16, 16])
    updates.step()
    return nn.utils.parameters_to_vector(task.student.parameters()).detach() - before.detach()


def test_a_long_gradient_is_shortened_and_keeps_its_direction(images, labels):
    whole = moved_by(images, labels)
    most = 0.25 * float(whole.norm())
    limited = moved_by(images, labels, clip_grad_norm=most)
    assert float(limited.norm()) == pytest.approx(most, rel=1e-3)
    torch.testing.assert_close(limited, 0.25 * whole, rtol=1e-3, atol=1e-6)


def test_a_short_gradient_is_left_alone(images, labels):
    whole = moved_by(images, labels)
    most = 4 * float(whole.norm())
    torch.testing.assert_close(moved_by(images, labels, clip_grad_norm=most), whole)


def test_a_skipped_update_moves_the_schedule_alone(images, labels):
    task = a_task()
    updates = updates_of(task, model_ema=True, lr_schedule="cosine", **PLAIN)
    take_in(updates, task, images, labels, [32])
    before = nn.utils.parameters_to_vector(task.student.parameters()).clone()
    rate = updates.scheduler.get_last_lr()[0]
    updates.skip()
    assert torch.equal(nn.utils.parameters_to_vector(task.student.parameters()), before)
    assert updates.scheduler.get_last_lr()[0] < rate
    assert updates.weights.steps == 0


@pytest.mark.usefixtures("few_digits")
def test_an_epoch_that_is_no_multiple_ends_with_a_smaller_step(fast_run, monkeypatch):
    """Five batches of ten images, two for a step: steps of 20, 20 and 10 images."""
    seen, steps = [], []
    backward, step = Updates.backward, Updates.step
    monkeypatch.setattr(
        Updates,
        "backward",
        lambda self, terms, images: (
            seen.append((terms.shape[1], images)),
            backward(self, terms, images),
        )[1],
    )
    monkeypatch.setattr(Updates, "step", lambda self: (steps.append(len(seen)), step(self))[1])
    config = fast_run.replace(train_images=50, grad_accum_steps=2, epochs=2)
    folder = train(config).folder
    assert seen == [(10, 20), (10, 20), (10, 20), (10, 20), (10, 10)] * 2
    assert steps == [2, 4, 5, 7, 9, 10]
    assert load_checkpoint(folder / "last.ckpt")["scheduler"]["last_epoch"] == 6


@pytest.mark.usefixtures("few_digits")
def test_accumulation_has_the_learning_rates_of_the_large_batch(fast_run):
    """Also where an epoch is no multiple; the rate at the end shows how many steps there were."""
    config = fast_run.replace(train_images=50, lr_schedule="cosine", epochs=3, start_epoch=1)
    folders = [
        train(config.replace(experiment=name, **options)).folder
        for name, options in [
            ("large", {"batch_size": 20}),
            ("small", {"batch_size": 10, "grad_accum_steps": 2}),
        ]
    ]
    large, small = (load_checkpoint(folder / "last.ckpt")["scheduler"] for folder in folders)
    assert large["_last_lr"] == small["_last_lr"]
    assert large["last_epoch"] == small["last_epoch"] == 9
