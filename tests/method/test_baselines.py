"""Baselines: the formulas of others, at the same points and under the same rules."""

import pytest
import torch
from test_distiller import BARE, IMAGES, Net, make, teacher_net
from torch import nn

import mgd
from mgd.method.baselines import BASELINES

every_baseline = pytest.mark.parametrize("method", BASELINES)


def parts(distiller):
    ours, theirs = (net.high[:2](net.low(IMAGES)) for net in (distiller.student, distiller.teacher))
    return distiller.points[1], ours, theirs


def test_ofd_is_the_partial_l2_behind_a_convolution_and_a_norm():
    distiller = make(method="ofd").eval()
    point, ours, theirs = parts(distiller)
    margin = mgd.margin_from_norm(distiller.teacher.high[1])
    wanted = mgd.partial_l2(point.norm(point.projection(ours)), theirs, margin)
    torch.testing.assert_close(distiller(IMAGES).point_losses[:, 1], wanted)
    assert point.projection.bias is None


def test_fitnet_is_the_squared_distance_of_a_projection():
    distiller = make(method="fitnet").eval()
    point, ours, theirs = parts(distiller)
    wanted = ((point.projection(ours) - theirs) ** 2).sum((1, 2, 3))
    torch.testing.assert_close(distiller(IMAGES).point_losses[:, 1], wanted)


def test_ofd_with_the_identity_is_mgd_with_the_identity_as_its_matching():
    student, teacher = Net((8, 14)), teacher_net()
    ofd, own = (make(teacher, student, method=m, reducer="sm").eval() for m in ("ofd", "mgd"))
    for learned, matched in zip(ofd.points, own.points, strict=True):
        channels = learned.num_channels
        nn.init.dirac_(learned.projection.weight)
        matched.matcher.matching.copy_(torch.arange(channels)[None])
    torch.testing.assert_close(ofd(IMAGES).point_losses, own(IMAGES).point_losses)


@every_baseline
def test_what_is_learned_gets_a_gradient_and_the_teacher_none(method):
    distiller = make(method=method).train()
    distiller(IMAGES).point_losses.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in distiller.points.parameters())
    assert all(p.grad is None for p in distiller.teacher.parameters())


@every_baseline
def test_the_projections_are_in_what_an_optimizer_and_ddp_get(method):
    distiller = make(method=method)
    learned = {id(p) for p in distiller.points.parameters()}
    assert learned
    assert learned <= {id(p) for p in distiller.learner.parameters()}


@every_baseline
def test_elements_are_those_of_the_teacher(method):
    assert [point.num_elements for point in make(method=method).points] == [8 * 64, 14 * 64]


def test_with_a_norm_there_is_nothing_to_take_from_images(caplog):
    distiller = make(method="ofd").train()
    assert not distiller.needs_images
    assert mgd.update_matching(distiller, [IMAGES]) == []
    distiller(IMAGES)
    assert not caplog.records


def test_without_a_norm_ofd_measures_its_margins():
    networks = teacher_net(norm=False), Net(norm=False)
    distiller = make(*networks, points=BARE, method="ofd")
    more = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    assert distiller.needs_images
    assert mgd.update_matching(distiller, [more[:12], more[12:]]) == []
    with torch.no_grad():
        features = distiller.teacher.low[:1](more)
    torch.testing.assert_close(distiller.points[0].margin, mgd.margin_from_features(features))


def test_features_of_bfloat16_give_a_float32_loss():
    distiller = make(method="fitnet").train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = distiller(IMAGES).point_losses
    assert losses.dtype == torch.float32


def test_dkd_needs_the_labels():
    distiller = make(kd="dkd").eval()
    with pytest.raises(mgd.InputError, match=r"distiller\(images, labels\)"):
        distiller(IMAGES)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    logits = distiller.student(IMAGES), distiller.teacher(IMAGES)
    wanted = mgd.decoupled_kd(*logits, labels, temperature=1.5)
    torch.testing.assert_close(distiller(IMAGES, labels).kd_loss, wanted)


def test_dist_takes_the_place_of_kd():
    distiller = make(kd="dist").eval()
    logits = distiller.student(IMAGES), distiller.teacher(IMAGES)
    torch.testing.assert_close(distiller(IMAGES).kd_loss, mgd.dist_kd(*logits, temperature=1.5))


@pytest.mark.parametrize("name", ["method", "kd", "reducer"])
def test_unknown_names_are_refused(name):
    with pytest.raises(mgd.InputError, match=f"unknown `{name}` 'best'; choose one of"):
        make(**{name: "best"})
