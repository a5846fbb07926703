"""Averaged weights: their formula, what they are lent to, and what a run saves of them."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import mgd
from engine.loop.test_trainer import guesses_of, rows_of, stock_student
from mgd.engine.loop.averaging import AveragedWeights, LastWeights, build_averaging
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.options.config import ScheduleConfig
from mgd.engine.run import train
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.classifiers import Classifiers
from mgd.engine.tasks.label_term import LabelTerm
from mgd.engine.tasks.supervised import SupervisedTask

DECAY = 0.7


class Masked(nn.Module):
    """A layer, statistics, and a buffer that is no statistic and may be infinite."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
        self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    def forward(self, images):
        return self.norm(self.layer(images)) + self.mask


def a_task():
    student = Classifier("tiny", Masked(), mgd.View(size=8), "random weights", "")
    return SupervisedTask(Classifiers(student, None, ("a", "b")), LabelTerm())


def train_a_step(network):
    """Changes all that a step changes: weights and statistics, at random."""
    with torch.no_grad():
        for weight in (network.layer.weight, network.layer.bias, network.norm.weight):
            weight.add_(torch.randn_like(weight))
        network.norm.running_mean.normal_()
        network.norm.running_var.uniform_(0.5, 2)
        network.norm.num_batches_tracked += 1


def values_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_the_mean_follows_its_formula():
    task = a_task()
    averaged = AveragedWeights(task, DECAY)
    mean = values_of(task.student)
    for step in range(1, 31):
        train_a_step(task.student)
        averaged.update()
        decay = min(DECAY, (1 + step) / (10 + step))
        now = values_of(task.student)
        for name in mean:
            mean[name] = decay * mean[name] + (1 - decay) * now[name]
    mean["norm.num_batches_tracked"] = torch.tensor(30)
    mean["mask"] = task.student.mask
    assert decay == DECAY  # so that both sides of the minimum were seen
    with averaged.in_place():
        torch.testing.assert_close(values_of(task.student), mean)


def test_the_first_weights_are_nearly_forgotten_after_a_short_run():
    task = a_task()
    with torch.no_grad():
        task.student.layer.bias.fill_(1.0)
        averaged = AveragedWeights(task, 0.9998)
        task.student.layer.bias.fill_(0.0)
    for _ in range(300):
        averaged.update()
    with averaged.in_place():
        assert float(task.student.layer.bias.detach().max()) < 1e-6


def test_weights_that_stand_still_are_their_own_mean():
    task = a_task()
    averaged = AveragedWeights(task, DECAY)
    before = values_of(task.student)
    for _ in range(5):
        averaged.update()
    with averaged.in_place():
        torch.testing.assert_close(values_of(task.student), before, rtol=0, atol=0)


def test_the_last_weights_come_back_bit_by_bit_also_after_an_error():
    task = a_task()
    averaged = AveragedWeights(task, DECAY)
    train_a_step(task.student)
    averaged.update()
    before = values_of(task.student)
    with averaged.in_place():
        assert not torch.equal(task.student.layer.weight, before["layer.weight"])
    torch.testing.assert_close(values_of(task.student), before, rtol=0, atol=0)
    with pytest.raises(KeyError), averaged.in_place():
        raise KeyError
    torch.testing.assert_close(values_of(task.student), before, rtol=0, atol=0)


def test_a_state_brings_both_back():
    task = a_task()
    averaged = AveragedWeights(task, DECAY)
    for _ in range(3):
        train_a_step(task.student)
        averaged.update()
    state = {**task.state_dict(), **averaged.state_dict()}
    other = a_task()
    again = AveragedWeights(other, DECAY)
    other.load_state_dict(state)
    again.load_state_dict(state)
    torch.testing.assert_close(values_of(other.student), values_of(task.student), rtol=0, atol=0)
    for network, weights in ((task.student, averaged), (other.student, again)):
        train_a_step_of_ones(network)
        weights.update()
    found, expected = again.state_dict(), averaged.state_dict()
    assert found["averaged_steps"] == expected["averaged_steps"] == 4
    torch.testing.assert_close(found["student"], expected["student"], rtol=0, atol=0)


def train_a_step_of_ones(network):
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1)


def test_tied_weights_are_averaged_once():
    task = a_task()
    task.student.twin = nn.Linear(3, 2)
    task.student.twin.weight = task.student.layer.weight
    averaged = AveragedWeights(task, 0.0)
    train_a_step(task.student)
    before = values_of(task.student)
    averaged.update()
    with averaged.in_place():
        torch.testing.assert_close(values_of(task.student), before)
    torch.testing.assert_close(values_of(task.student), before, rtol=0, atol=0)


def test_without_the_option_nothing_is_averaged_or_saved():
    found = build_averaging(a_task(), ScheduleConfig())
    assert type(found) is LastWeights
    assert found.state_dict() == {}


@pytest.mark.usefixtures("few_digits")
def test_a_run_measures_and_saves_the_mean(fast_run, few_digits):
    folder = train(fast_run.replace(model_ema=True, model_ema_decay=0.8, epochs=3)).folder
    last, best = (load_checkpoint(folder / f"{name}.ckpt") for name in ("last", "best"))
    plain = load_file(folder / "student.safetensors")
    assert all(torch.equal(plain[name], best["student"][name]) for name in plain)
    differ = [n for n in plain if not torch.equal(last["student"][n], last["last_student"][n])]
    assert {name.rpartition(".")[2] for name in differ} >= {"weight", "running_mean", "running_var"}
    student, result = stock_student(folder), json.loads((folder / "result.json").read_text())
    for split, found in (
        (few_digits.valid, float(rows_of(folder)[result["best_epoch"]]["valid_top1"])),
        (few_digits.test, result["test_top1"]),
    ):
        right = (guesses_of(student, split) == torch.tensor(split.labels)).sum()
        assert found == pytest.approx(100 * int(right) / 60)


@pytest.mark.usefixtures("few_digits")
def test_a_mean_that_keeps_nothing_is_the_run_without_it(fast_distillation):
    """So a matching is updated from the last weights, and nothing else of the run changes."""
    config = fast_distillation.replace(epochs=3)
    plain = train(config.replace(experiment="plain")).folder
    found = train(config.replace(experiment="mean", model_ema=True, model_ema_decay=0)).folder
    assert rows_of(found) == rows_of(plain)
    states = [load_file(folder / "student.safetensors") for folder in (found, plain)]
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.usefixtures("few_digits")
def test_the_last_weights_are_trained_and_matched_whatever_is_averaged(fast_distillation):
    config = fast_distillation.replace(epochs=2)
    plain = train(config.replace(experiment="plain")).folder
    found = train(config.replace(experiment="mean", model_ema=True)).folder
    plain, found = (load_checkpoint(folder / "last.ckpt") for folder in (plain, found))
    torch.testing.assert_close(found["last_student"], plain["student"], rtol=0, atol=0)
    torch.testing.assert_close(found["distiller"], plain["distiller"], rtol=0, atol=0)
