"""Guided: what every integration relies on, in a loop of no library."""

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from plain_loop import digits, join, loader, matchings
from torch import nn
from torch.utils.checkpoint import checkpoint

import mgd
from mgd.errors import MissingPackageError, import_extra
from mgd.integrations import Guided

LIBRARIES = ("lightning", "pytorch_lightning", "accelerate", "transformers", "timm")


@pytest.fixture
def guided():
    guided = Guided(join())
    guided.attach()
    yield guided
    guided.detach()


def call(guided):
    images, labels = digits()
    return F.cross_entropy(guided.student.train()(images[:8]), labels[:8])


def test_no_library_is_imported_before_it_is_asked_for():
    code = "import sys, mgd, mgd.integrations; print(*sys.modules)"
    words = [sys.executable, "-c", code]
    modules = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ)
    assert not set(modules.stdout.split()) & set(LIBRARIES)


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("lightning", "lightning.pytorch", "lightning"),
        ("accelerate", "accelerate", "accelerate"),
        ("transformers", "transformers", "hf"),
        ("transformers", "accelerate", "accelerate"),
        ("timm", "timm.task", "timm"),
    ],
)
def test_a_missing_library_is_told_with_its_extra(module, package, extra, monkeypatch):
    pytest.importorskip(package)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"mgd.integrations.{module}", raising=False)
    with pytest.raises(ImportError, match=rf"needs the package {package}.*\[{extra}\]"):
        __import__(f"mgd.integrations.{module}")


def test_a_missing_package_is_an_error_of_both_kinds():
    with pytest.raises(MissingPackageError) as found:
        import_extra("no_such_package", "extra", "this")
    assert isinstance(found.value, mgd.InputError)


def test_the_loss_is_that_of_the_distiller(guided):
    guided.begin_epoch(0, loader())
    guided.distiller.train()
    images = digits()[0][:8]
    expected = guided.distiller(images)
    output = guided.student(images)
    found = guided.loss()
    assert torch.equal(found.loss, expected.loss)
    assert found.output is output


def test_every_call_is_compared_once(guided):
    call(guided)
    guided.loss()
    with pytest.raises(mgd.InputError, match="not called since the last loss"):
        guided.loss()


def test_the_norms_of_the_points_are_in_training_mode(guided):
    guided.distiller.eval()
    before = guided.distiller.points[0].norm.running_mean.clone()
    call(guided)
    guided.loss()
    assert not torch.equal(guided.distiller.points[0].norm.running_mean, before)


def test_a_student_with_frozen_statistics_is_followed_too(guided):
    before = guided.student.bn1.running_mean.clone()
    guided.student.eval()(digits()[0][:8])
    guided.loss().loss.mean().backward()
    assert guided.student.bn1.weight.grad.any()
    assert torch.equal(guided.student.bn1.running_mean, before)


class Checkpointed(nn.Module):
    """Keeps no activations of its layers for the backward pass."""

    def __init__(self, width, reentrant):
        super().__init__()
        layers = [nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(width, 10)
        self.reentrant = reentrant

    def forward(self, images):
        if self.reentrant is None:
            features = self.body(images)
        else:
            images = images + torch.zeros((), requires_grad=True)
            features = checkpoint(self.body, images, use_reentrant=self.reentrant)
        return self.head(features.mean((2, 3)))


def checkpointed(reentrant):
    def networks():
        return Checkpointed(8, None), Checkpointed(4, reentrant)

    guided = Guided(join(networks, points=[("body.2", "body.2")]))
    guided.attach()
    return guided


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # to be expected
def test_checkpointed_activations_train_alike():
    gradients = []
    for reentrant in (None, False):
        guided = checkpointed(reentrant)
        (call(guided) + guided.loss().loss.mean()).backward()
        gradients.append([each.grad for each in guided.student.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # to be expected
def test_activations_that_are_hidden_by_reentrant_checkpoints_are_refused():
    guided = checkpointed(True)
    call(guided)
    with pytest.raises(mgd.InputError, match="use_reentrant=False"):
        guided.loss()


@pytest.mark.parametrize("how", ["no_grad", "inference", "detached"])
def test_other_calls_are_not_followed(guided, how):
    images = digits()[0][:8]
    if how != "detached":
        with torch.no_grad() if how == "no_grad" else torch.inference_mode():
            guided.student.train()(images)
    else:
        guided.detach()
        guided.student.train()(images)
    with pytest.raises(mgd.InputError, match="not called"):
        guided.loss()


def test_a_call_that_fails_does_not_disturb_the_next(guided):
    with pytest.raises(RuntimeError, match="channels"):
        guided.student.train()(torch.zeros(2, 5, 8, 8))
    call(guided)
    assert guided.loss().loss.shape == (8,)


def test_the_student_is_given_back_as_it_was():
    distiller = join()
    student = distiller.student
    before = dict(student.named_parameters()), list(student.state_dict())
    guided = Guided(distiller)
    for _ in range(2):
        guided.attach()
        assert set(guided.parameters()) < set(dict(student.named_parameters()))
        assert list(student.state_dict()) == before[1]
        guided.detach()
    assert dict(student.named_parameters()) == before[0]
    hooks = student._forward_hooks, student._forward_pre_hooks, student._state_dict_hooks
    assert not any(hooks)


def test_a_strict_load_misses_nothing_but_what_is_missing(guided):
    outer = nn.ModuleDict({"inner": guided.student})
    state = outer.state_dict()
    outer.load_state_dict(state)
    state.pop("inner.linear.bias")
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "inner.linear.bias"'):
        outer.load_state_dict(state)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_the_student_is_followed_by_nobody(guided, make):
    copied = make(guided.student)
    assert list(copied.state_dict()) == list(guided.student.state_dict())
    copied.train()(digits()[0][:8])
    with pytest.raises(mgd.InputError, match="not called"):
        guided.loss()


def test_a_student_of_a_list_of_layers_computes_what_it_did():
    def sequential(width):
        layers = [nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))

    guided = Guided(join(lambda: (sequential(8), sequential(4))))
    before = guided.student.eval()(digits()[0])
    guided.attach()
    assert torch.equal(guided.student(digits()[0]), before)
    assert len(guided.student) == 6


def test_the_matching_is_solved_on_its_schedule():
    guided = Guided(join(), every_epochs=2, max_images=20)
    solved = [epoch for epoch in range(5) if guided.begin_epoch(epoch, loader())]
    assert solved == [0, 2, 4]
    assert guided.begin_epoch(4, loader()) == []  # once an epoch
    (report, *_) = guided.begin_epoch(6, loader())
    assert report.images == 20


def test_images_of_ones_own_take_the_place_of_the_loader():
    guided = Guided(join(), images=[digits()[0][:12]])
    assert guided.begin_epoch(0, loader())[0].images == 12


def test_a_baseline_is_measured_once_and_its_layers_are_lent():
    guided = Guided(join(method="fitnet"))
    guided.attach()
    assert guided.begin_epoch(0, loader()) == []
    assert "mgd_0_projection_weight" in dict(guided.student.named_parameters())
    (call(guided) + guided.loss().loss.mean()).backward()
    assert guided.student.get_parameter("mgd_0_projection_weight").grad.any()


def test_random_numbers_go_on_as_without_a_matching(guided):
    shuffled = torch.utils.data.DataLoader(loader().dataset, 16, shuffle=True)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert guided.begin_epoch(0, shuffled)
    assert torch.equal(torch.rand(3), expected)


def test_persistent_workers_go_on_where_they_were(guided):
    batches = torch.utils.data.DataLoader(
        loader().dataset, 16, num_workers=1, persistent_workers=True
    )
    going = iter(batches)
    next(going)
    guided.begin_epoch(0, batches)
    assert len(list(going)) == 4


def test_a_state_goes_on_with_the_same_matching():
    first, second = Guided(join(), every_epochs=3), Guided(join(), every_epochs=3)
    first.begin_epoch(0, loader())
    with torch.no_grad():
        first.distiller.points[0].norm.weight.fill_(0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.begin_epoch(0, loader()) == []  # in the middle of this epoch
    assert second.begin_epoch(1, loader()) == []
    assert all(map(torch.equal, matchings(first.distiller), matchings(second.distiller)))
    assert torch.equal(second.distiller.points[0].norm.weight, torch.full((8,), 0.5))


def test_the_state_of_other_points_is_refused():
    state = Guided(join()).state_dict()
    other = Guided(join(points=[("layer1.0.relu", "layer1.0.relu")]))
    with pytest.raises(mgd.InputError, match=r"other distillation points \(.*\); give"):
        other.load_state_dict(state)


def test_a_second_guide_is_refused(guided):
    with pytest.raises(mgd.InputError, match="has 'mgd_0_norm_weight' already"):
        Guided(guided.distiller).attach()


def test_an_optimizer_of_the_student_alone_is_refused(guided):
    guided.check_trained([torch.optim.SGD(guided.student.parameters(), lr=0.1)])
    head = torch.optim.SGD(guided.student.linear.parameters(), lr=0.1)
    with pytest.raises(mgd.InputError, match="no optimizer has mgd_0_norm_weight"):
        guided.check_trained([head])


def test_a_view_of_the_student_is_refused():
    teacher, student = (mgd.create_model("cifar_resnet8", num_classes=10) for _ in range(2))
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    views = {"teacher_view": mgd.View(size=8), "student_view": mgd.View(size=8)}
    with pytest.raises(mgd.InputError, match=r"`student_view`.*Normalize"):
        Guided(mgd.Distiller(teacher, student, images, **views))


def test_data_parallel_is_refused(guided):
    replica = guided.student._replicate_for_data_parallel()
    with pytest.raises(mgd.InputError, match="DataParallel"):
        replica.train()(digits()[0][:8])


def test_a_call_without_images_is_refused(guided):
    with pytest.raises(mgd.InputError, match="a dict with pixels; needed are images"):
        guided.student.train()(pixels=digits()[0])
