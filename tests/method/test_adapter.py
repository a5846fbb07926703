"""AdapterPoint: a learned convolution that starts as the matching."""

import io

import pytest
import torch
from test_distiller import IMAGES, Net, make, teacher_net

import mgd
from mgd.method.adapter import AdapterPoint


def started(student=(4, 6), teacher=(8, 12), **options):
    networks = teacher_net(channels=teacher), Net(student)
    distiller = make(*networks, method="mgd-adapter", kd_weight=0.0, **options)
    mgd.update_matching(distiller, [IMAGES])
    return distiller


def matrices(distiller):
    return [point.projection.weight[:, :, 0, 0].detach().clone() for point in distiller.points]


def limit(channels):  # of the usual start: uniform, within one over the root of the inputs
    return AdapterPoint.scale * AdapterPoint.noise / channels**0.5 + 1e-6


def test_it_starts_as_the_matching_and_a_little_noise():
    distiller = started()
    for point, weight in zip(distiller.points, matrices(distiller), strict=True):
        wanted = torch.zeros_like(weight)
        for group in point.matcher.matching:
            for student, teacher in enumerate(group.tolist()):
                wanted[teacher, student] = 1
        assert (wanted.sum(1) == 1).all()
        noise = weight - AdapterPoint.scale * wanted
        assert noise.abs().max() <= limit(weight.shape[1])
        assert noise.std() > 0.3 * limit(weight.shape[1])


def test_every_teacher_channel_starts_somewhere():
    distiller = started(student=(3, 5), teacher=(8, 12))  # 2 of each are matched to none
    for point, weight in zip(distiller.points, matrices(distiller), strict=True):
        matched = set(point.matcher.matching.flatten().tolist())
        nearest = point.matcher.compute().argmin(0)
        for teacher in set(range(len(weight))) - matched:
            assert weight[teacher].argmax() == nearest[teacher]
            assert weight[teacher].max() > AdapterPoint.scale - limit(weight.shape[1])


def test_a_teacher_channel_of_several_starts_as_their_mean():
    distiller = started(student=(12, 12), teacher=(8, 5))
    weight, point = matrices(distiller)[1], distiller.points[1]
    followed = point.matcher.matching[0].bincount(minlength=5).tolist()
    assert max(followed) > 1
    for row, followers in zip(weight, followed, strict=True):
        assert row.max() <= AdapterPoint.scale / followers + limit(12)
        assert row.sum() == pytest.approx(AdapterPoint.scale, abs=12 * limit(12))


def test_the_loss_is_that_of_ofd_with_the_same_convolution():
    networks = teacher_net(), Net()
    adapter, ofd = (make(*networks, method=m).eval() for m in ("mgd-adapter", "ofd"))
    for ours, theirs in zip(adapter.points, ofd.points, strict=True):
        theirs.projection.load_state_dict(ours.projection.state_dict())
    torch.testing.assert_close(adapter(IMAGES).point_losses, ofd(IMAGES).point_losses)


def test_a_later_update_leaves_what_was_learned():
    distiller = started().train()
    before = matrices(distiller)
    with torch.no_grad():
        for point in distiller.points:
            point.projection.weight += 1
    mgd.update_matching(distiller, [IMAGES + 1])
    for now, then in zip(matrices(distiller), before, strict=True):
        torch.testing.assert_close(now, then + 1)


def test_without_an_update_it_starts_from_the_example():
    distiller = make(method="mgd-adapter")
    for point, weight in zip(distiller.points, matrices(distiller), strict=True):
        assert (weight.argmax(1)[point.matcher.matching] == torch.arange(weight.shape[1])).all()


def test_the_convolution_is_trained_and_kept_in_the_state():
    distiller = started().train()
    distiller(IMAGES).loss.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in distiller.points.parameters())
    buffer = io.BytesIO()
    torch.save(distiller.points.state_dict(), buffer)
    other = started()
    other.points.load_state_dict(torch.load(io.BytesIO(buffer.getvalue())))
    for ours, theirs in zip(matrices(other), matrices(distiller), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("size", "weight"), [(8, 60 * 18 * 8**2 / 1500), (32, 60)])
def test_its_automatic_weight_is_three_times_the_published_one(size, weight):
    images = torch.randn(2, 3, size, size)
    distiller = make(method="mgd-adapter", kd_weight=0.0, example=images)
    channels = (8, 14)  # the teacher's; the first point has half a share
    each = distiller.term_weights.values()
    total = sum(w * n * size**2 for w, n in zip(each, channels, strict=True))
    assert total == pytest.approx(weight)


def test_terms_are_named_after_it():
    assert list(started().eval()(IMAGES).terms) == ["mgd_adapter_1", "mgd_adapter_2"]


@pytest.mark.parametrize(
    ("method", "again"), [("mgd", True), ("mgd-adapter", False), ("ofd", False), ("fitnet", False)]
)
def test_which_methods_solve_the_matching_again(method, again):
    assert make(method=method).points.solved_again is again
