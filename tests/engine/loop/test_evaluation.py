"""Evaluation against a slow count."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mgd.engine.loop.evaluation import evaluate
from mgd.engine.tasks.classifier import Classifier
from mgd.errors import InputError
from mgd.views import View

K = 7


class Table(nn.Module):
    """Looks its logits up; the images carry their row."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        return self.dropout(self.logits[images[:, 0, 0, 0].long()])


AS_THEY_ARE = View(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), size=2, crop_pct=1.0)


def of(network):
    return Classifier("Table", network, AS_THEY_ARE, "random weights", "made up")


def rows(numbers):
    """Images that carry a row of the table."""
    return numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def run(logits, labels, sizes=(4, 4, 3), num_classes=K, **options):
    network = Table(logits)
    parts = torch.arange(len(labels)).split(sizes)
    batches = [(rows(part), labels[part]) for part in parts]
    device = torch.device("cpu")
    return network, evaluate(of(network), batches, num_classes, device, **options)


def slow(logits, labels, k):
    right = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        ranked = sorted(range(len(row)), key=lambda i: -row[i])
        right += label in ranked[:k]
    return 100 * right / len(labels)


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(11, K, generator=generator)
    return logits, torch.randint(K - 1, (11,), generator=generator)  # the last class has no image


def test_accuracies_and_loss_agree_with_a_count(case):
    logits, labels = case
    _, scores = run(logits, labels)
    assert scores.top1 == pytest.approx(slow(logits, labels, 1))
    assert scores.top5 == pytest.approx(slow(logits, labels, 5), abs=1e-4)
    assert scores.loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert scores.images == 11
    assert scores.images_per_second > 0


def test_per_class_counts(case):
    logits, labels = case
    _, scores = run(logits, labels)
    guesses = logits.argmax(1).tolist()
    for label, (right, all_) in enumerate(scores.per_class):
        members = [g for g, found in zip(guesses, labels.tolist(), strict=True) if found == label]
        assert (right, all_) == (members.count(label), len(members))
    assert scores.per_class[K - 1] == (0, 0)


def test_confusions_are_counted_where_they_are_asked_for(case):
    logits, labels = case
    assert run(logits, labels)[1].confusion == ()
    confusion = run(logits, labels, confusion=True)[1].confusion
    guesses = zip(labels.tolist(), logits.argmax(1).tolist(), strict=True)
    assert {(a, b): n for a, b, n in confusion} == Counter(guesses)


def test_columns_bring_the_outputs_into_the_order_of_the_run(case):
    logits, labels = case
    order = torch.randperm(K, generator=torch.Generator().manual_seed(1))
    network = Table(logits[:, order.argsort()])
    asked = Classifier("Table", network, AS_THEY_ARE, "a file", "made up", columns=order.argsort())
    asked = replace(asked, columns=order)
    batches = [(rows(torch.arange(11)), labels)]
    scores = evaluate(asked, batches, K, torch.device("cpu"))
    assert scores.per_class == run(logits, labels)[1].per_class


def test_batches_of_any_size_count_the_same(case):
    whole, cut = run(*case, sizes=11)[1], run(*case, sizes=(1, 9, 1))[1]
    assert (cut.top1, cut.top5, cut.per_class) == (whole.top1, whole.top5, whole.per_class)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-6)


def test_fewer_than_five_classes_are_all_in_the_top_five():
    logits = torch.randn(11, 3)
    _, scores = run(logits, torch.zeros(11, dtype=torch.long), num_classes=3)
    assert scores.top5 == 100


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_given_back_and_eval_is_used(case, training):
    logits, labels = case
    network = Table(logits).train(training)
    network.dropout.train()
    batches = [(rows(torch.arange(11)), labels)]
    scores = evaluate(of(network), batches, K, torch.device("cpu"))
    assert scores.top1 == pytest.approx(slow(logits, labels, 1))  # no dropout
    assert network.training is training
    assert network.dropout.training


def test_the_mode_is_given_back_after_an_error(case):
    network = Table(case[0])
    with pytest.raises(InputError):
        evaluate(of(network), [(rows(torch.zeros(1)), case[1][:1])], 4, torch.device("cpu"))
    assert network.training


def test_another_number_of_outputs_is_an_error(case):
    with pytest.raises(InputError, match=r"Table has outputs \(7,\), but the data has 9 classes"):
        run(*case, num_classes=9)


def test_no_gradients_are_kept(case):
    logits = case[0].requires_grad_()
    run(logits, case[1])
    assert logits.grad is None


def test_answers_are_the_likeliest_classes_and_their_softmax(case):
    logits, labels = case
    _, scores = run(logits, labels, answers=True)
    assert scores.answers.classes == tuple(logits.argmax(1).tolist())
    assert scores.answers.probabilities == pytest.approx(logits.softmax(1).amax(1).tolist())
    assert scores.answers.classes[0] != labels[0] or len(set(scores.answers.classes)) > 1
    assert run(logits, labels)[1].answers is None


def test_an_answer_is_the_one_that_accuracy_counts_where_softmax_has_no_more_digits():
    logits = torch.zeros(1, K)
    logits[0, 5] = 1e-9  # the softmax is the same for all classes
    _, scores = run(logits, torch.tensor([5]), sizes=(1,), answers=True)
    assert scores.top1 == 100
    assert scores.answers.classes == (5,)
