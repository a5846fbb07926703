"""Maps at the points: what the taps read, and what the method makes of it."""

import pytest
import torch
from torch import nn

import mgd
from mgd.method.maps import point_maps

IMAGES = torch.randn(3, 3, 16, 16)


def a_distiller(**options):
    torch.manual_seed(1)
    teacher = mgd.create_model("cifar_resnet8", num_classes=10)
    student = mgd.create_model("cifar_resnet8_x0_5", num_classes=10)
    return mgd.Distiller(teacher, student, IMAGES, **options)


def inputs_of(network, path):
    """Returns what the module at a path was given at its last call, in eval mode."""
    kept = []
    handle = network.get_submodule(path).register_forward_pre_hook(
        lambda module, args: kept.append(args[0].clone())
    )
    with torch.no_grad():
        network.eval()(IMAGES)
    handle.remove()
    return kept[-1]


def test_the_maps_are_those_of_the_networks():
    with a_distiller() as distiller:
        found = point_maps(distiller, IMAGES)
        assert [maps.point for maps in found] == list(distiller.points)
        for maps in found:
            pair = maps.point.pair
            student = inputs_of(distiller.student, pair.student.path)
            teacher = inputs_of(distiller.teacher, pair.teacher.path)
            torch.testing.assert_close(maps.student, student)
            torch.testing.assert_close(maps.teacher, teacher)
            groups = teacher[:, maps.point.matcher.matching]  # (B, G, S, H, W)
            strongest = groups.gather(1, groups.abs().argmax(1, keepdim=True))[:, 0]
            torch.testing.assert_close(maps.target(), strongest)
            margin = maps.point.margin[maps.point.matcher.matching].mean(0)
            torch.testing.assert_close(maps.margin(), margin)


def test_a_look_changes_nothing():
    with a_distiller() as distiller:
        distiller.train()
        before = {name: value.clone() for name, value in distiller.state_dict().items()}
        for maps in point_maps(distiller, IMAGES):
            maps.normalised()
        assert distiller.student.training
        assert all(point.norm.training for point in distiller.points)
        state = distiller.state_dict()
        assert all(torch.equal(state[name], value) for name, value in before.items())


def test_the_student_is_shown_as_the_loss_compares_it():
    with a_distiller() as distiller:
        maps = point_maps(distiller, IMAGES)[0]
        norm = maps.point.norm
        norm.running_mean.normal_()
        nn.init.normal_(norm.weight)
        centred = maps.student - norm.running_mean[:, None, None]
        expected = centred * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]
        torch.testing.assert_close(maps.normalised(), expected, rtol=1e-4, atol=1e-5)


def test_an_untrained_student_is_shown_with_deviation_one():
    with a_distiller() as distiller:
        maps = point_maps(distiller, IMAGES)[1]
        maps.student[:, 2] = 7.0  # a channel that says nothing
        shown = maps.standardised()
        own = nn.BatchNorm2d(maps.student.shape[1], affine=False).train()
        torch.testing.assert_close(shown, own(maps.student), rtol=1e-3, atol=1e-4)
        assert not shown[:, 2].any()


@pytest.mark.parametrize("method", ["ofd", "fitnet"])
def test_a_baseline_has_no_matched_maps(method):
    with a_distiller(method=method) as distiller:
        assert point_maps(distiller, IMAGES) == []
