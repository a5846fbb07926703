"""A loss or gradient that is no number: named at its step, never saved, or left out entirely."""

import logging
import math
from pathlib import Path

import pytest
import torch

from mgd.engine.loop.checkpoint import checksum, load_checkpoint
from mgd.engine.loop.runlog import Reporter
from mgd.engine.loop.trainer import Trainer
from mgd.engine.run import train
from mgd.engine.tasks.distillation import DistillationTask
from mgd.errors import InputError
from mgd.runfolder import read_epochs

pytestmark = pytest.mark.usefixtures("few_digits")

LOSSES = DistillationTask.losses
STEP = Trainer._step


def infinite_term(task, terms):
    return {**terms, "kd": terms["kd"] * math.inf}


def no_number_in_one_image(task, terms):
    spoiled = terms["mgd_1"].clone()
    spoiled[0] = math.nan
    return {**terms, "mgd_1": spoiled}


def infinite_gradient(task, terms):
    """Adds nothing to the loss: the root of zero, whose slope is infinite."""
    weight = next(task.student.parameters())
    return {**terms, "ce": terms["ce"] + (weight * 0).square().sum().sqrt()}


def spoil(monkeypatch, steps, fault):
    """Makes steps of the run bad, counted from 1 over all epochs; 3 steps are an epoch."""
    calls = []

    def losses(self, *batch):
        logits, terms = LOSSES(self, *batch)
        calls.append(1)
        return logits, fault(self, terms) if len(calls) in steps else terms

    monkeypatch.setattr(DistillationTask, "losses", losses)


FAULTS = [
    (infinite_term, "loss_kd inf"),
    (no_number_in_one_image, "loss_mgd_1 nan"),
    (infinite_gradient, "but the gradient is infinite or no number"),
]


@pytest.mark.parametrize(("fault", "told"), FAULTS)
@pytest.mark.parametrize("freq", [1, 100])
def test_the_step_the_terms_and_the_checkpoint_are_named(
    fast_distillation, monkeypatch, fault, told, freq
):
    spoil(monkeypatch, {5, 6}, fault)
    config = fast_distillation.replace(experiment="run", checkpoint_every=1, print_freq=freq)
    with pytest.raises(InputError) as caught:
        train(config)
    message = str(caught.value)
    assert "not finite at epoch 1, step 2 (loss_ce " in message
    assert told in message
    folder = Path(config.output.output) / "run"
    assert f"go on from '{folder / 'last.ckpt'}' with --resume auto" in message
    saved = load_checkpoint(folder / "last.ckpt")
    assert (saved["epoch"], saved["step"]) == (1, 1)
    for part in ("student", "distiller"):
        assert all(value.isfinite().all() for value in saved[part].values())


def test_before_the_first_checkpoint_there_is_none_to_name(fast_distillation, monkeypatch):
    spoil(monkeypatch, {1}, infinite_term)
    with pytest.raises(InputError, match=r"epoch 0, step 1 .*start again: there is no checkpoint"):
        train(fast_distillation)


def test_weights_that_are_no_numbers_are_never_saved(fast_run, monkeypatch):
    """As after an update too large for float32, which loss and gradient did not show."""

    def step(self, batches, size, labelled):
        STEP(self, batches, size, labelled)
        if self.progress.epoch == 1:
            next(self.task.student.buffers()).fill_(math.inf)

    monkeypatch.setattr(Trainer, "_step", step)
    config = fast_run.replace(experiment="run")
    with pytest.raises(InputError, match=r"running_mean' is not finite after epoch 1, step 3; .*"):
        train(config)
    folder = Path(config.output.output) / "run"
    assert load_checkpoint(folder / "last.ckpt")["epoch"] == 1
    assert len(read_epochs(folder)) == 1


def without(steps):
    """Returns a step that, at some numbers, only moves the schedule on."""
    calls = []

    def step(self, batches, size, labelled):
        calls.append(1)
        if len(calls) in steps:
            self.updates.scheduler.step()
        else:
            STEP(self, batches, size, labelled)

    return step


def saved_by(config):
    state = load_checkpoint(train(config).folder / "last.ckpt")
    return {name: checksum(state[name]) for name in state if name not in ("config", "watch")}


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("fault", [fault for fault, _ in FAULTS])
def test_a_skipped_step_leaves_no_trace(fast_distillation, monkeypatch, caplog, fault):
    """Neither weights nor momentum nor running statistics: bit by bit as if it were left out."""
    config = fast_distillation.replace(lr_schedule="cosine", mgd_reducer="rd")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", without({1, 5}))
        expected = saved_by(config.replace(experiment="left-out"))
    spoil(monkeypatch, {1, 5}, fault)
    with caplog.at_level(logging.WARNING):
        found = saved_by(config.replace(experiment="run", on_nan="skip"))
    assert found == expected
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("skipped")]
    assert [line.partition(":")[0] for line in told] == [
        "skipped epoch 0, step 1",
        "skipped epoch 1, step 2",
    ]
    records = read_epochs(Path(config.output.output) / "run")
    assert [record.skipped_steps for record in records] == [1, 1]
    assert all(math.isfinite(record.losses["loss"]) for record in records)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_bad_batch_spoils_the_whole_step_that_it_is_part_of(fast_distillation, monkeypatch):
    """Two batches a step: the first batch is in step 1, the tenth in step 5."""
    config = fast_distillation.replace(
        train_images=60, grad_accum_steps=2, clip_grad_norm=1.0, model_ema=True
    )
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", without({1, 5}))
        expected = saved_by(config.replace(experiment="left-out"))
    spoil(monkeypatch, {1, 10}, infinite_term)
    assert saved_by(config.replace(experiment="run", on_nan="skip")) == expected


class CutError(Exception):
    pass


class Cut(Reporter):
    def step(self, done, values):
        if done == 3:
            raise CutError


def test_the_count_survives_a_resume(fast_distillation, monkeypatch):
    spoil(monkeypatch, {1}, infinite_term)
    config = fast_distillation.replace(
        experiment="run", on_nan="skip", checkpoint_every=1, print_freq=1
    )
    with pytest.raises(CutError):
        train(config, Cut())
    folder = train(config.replace(resume="auto")).folder
    assert [record.skipped_steps for record in read_epochs(folder)] == [1, 0]


def test_a_projection_without_a_norm_can_be_skipped_too(fast_distillation, monkeypatch):
    def spoiled(task, terms):
        return {**terms, "ce": terms["ce"] * math.nan}

    spoil(monkeypatch, {2}, spoiled)
    config = fast_distillation.replace(distiller="fitnet", on_nan="skip", loss_factor=1e4)
    assert [record.skipped_steps for record in read_epochs(train(config).folder)] == [1, 0]


def test_an_epoch_without_a_good_step_ends_the_run(fast_distillation, monkeypatch):
    spoil(monkeypatch, {4, 5, 6}, infinite_term)
    with pytest.raises(InputError, match="every step of epoch 1 was skipped; lower --lr"):
        train(fast_distillation.replace(on_nan="skip", print_freq=1))


def test_without_skip_there_is_no_such_column(fast_run):
    (record, _) = read_epochs(train(fast_run).folder)
    assert "skipped_steps" not in record.row()


def test_stopping_costs_no_wait_for_the_device(fast_distillation, monkeypatch):
    """Counts how often a tensor is turned into a number."""
    numbers = []
    for name in ("item", "__bool__", "tolist", "__float__", "__int__"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, real=real: (numbers.append(1), real(self))[1]
        )
    counts = []

    def step(self, batches, size, labelled):
        before = len(numbers)
        self.watch.before_forward()
        self.watch.is_spoiled(0, 1, torch.ones(len(self.task.terms), 2))
        counts.append(len(numbers) - before)
        STEP(self, batches, size, labelled)

    monkeypatch.setattr(Trainer, "_step", step)
    train(fast_distillation.replace(epochs=1))
    assert counts == [0, 0, 0]
    counts.clear()
    train(fast_distillation.replace(epochs=1, on_nan="skip", experiment="skip"))
    assert all(counts)
