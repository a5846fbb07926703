"""--compile: compiled networks give the losses of eager ones."""

import copy

import pytest
import torch
import torch.nn.functional as F

import mgd
from mgd.engine.tasks.building import compile_networks
from mgd.models.pairs import known_points

TEACHER, STUDENT = "cifar_resnet8_x0_5", "cifar_resnet8_x0_25"


def losses_and_gradients(backend, size=16):
    torch.manual_seed(0)
    teacher, student = mgd.create_model(TEACHER, 10), mgd.create_model(STUDENT, 10)
    images, labels = torch.randn(6, 3, size, size), torch.arange(6)
    points = known_points(TEACHER, STUDENT)
    distiller = mgd.Distiller(teacher, student, points=points, example=images, kd_weight=1.0)
    if backend:
        compile_networks(distiller, backend)
    out = distiller.train()(images, labels)
    (F.cross_entropy(out.logits, labels) + out.loss.mean()).backward()
    gradients = {name: p.grad for name, p in student.named_parameters()}
    scores = student.eval()(images)
    return out.terms, gradients, scores


@pytest.mark.filterwarnings("ignore")  # of the compiler's own parts
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_losses_and_gradients_are_the_eager_ones(backend):
    torch.compiler.reset()
    eager, compiled = losses_and_gradients(None), losses_and_gradients(backend)
    for ours, theirs in zip(compiled, eager, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.needs("the compiler of 2.6 cannot trace the shape checks of the tests", torch="2.7")
@pytest.mark.filterwarnings("ignore")
def test_the_partial_l2_compiles_to_the_same():
    torch.compiler.reset()
    student, target = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    margin = -torch.rand(3)
    grads = []
    for function in (mgd.partial_l2, torch.compile(mgd.partial_l2, backend="aot_eager")):
        leaf = copy.deepcopy(student).requires_grad_()
        function(leaf, target, margin).sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-5, atol=1e-6)
