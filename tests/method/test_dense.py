"""Detectors and segmenters under a distiller: their own calls, padding, weights and points."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from dense_networks import LEVELS, POINTS, batch, detector, pair, segmenter
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

import mgd
import reference
from mgd.inside import canvas_of
from mgd.integrations import Guided

SIZES = (64, 48), (32, 64)


def total(out):
    return sum(out.output.values()) + out.loss.mean()


def test_a_training_step_of_a_detector_lowers_the_loss_of_the_points():
    torch.manual_seed(1)
    images, targets = batch(*SIZES)
    distiller = mgd.Distiller(*pair(), images, [*POINTS, *LEVELS])
    mgd.update_matching(distiller, [(images, targets)])
    distiller.train()
    trained = [*distiller.student.parameters(), *distiller.points.parameters()]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    found = []
    for _ in range(12):
        out = distiller(images, targets=targets)
        optimizer.zero_grad()
        total(out).backward()
        optimizer.step()
        found.append(float(out.loss.detach().mean()))
    assert found[-1] < 0.8 * found[0]


def test_the_student_is_called_once_as_its_own_loop_calls_it():
    images, targets = batch(*SIZES)
    teacher, student = pair()
    alone = copy.deepcopy(student).train()
    calls = []
    distiller = mgd.Distiller(teacher, student, images, POINTS).train()
    student.register_forward_pre_hook(lambda module, words: calls.append(words))
    out = distiller(images, targets=targets)
    assert len(calls) == 1
    assert calls[0][1] is targets
    wanted = alone(images, targets)
    assert out.output.keys() == wanted.keys()
    for name, loss in wanted.items():
        torch.testing.assert_close(out.output[name], loss)


def test_guided_by_its_own_call_gives_what_the_distiller_gives():
    images, targets = batch(*SIZES)
    teacher, student = pair()
    twin = copy.deepcopy((teacher, student))
    out = mgd.Distiller(*twin, images, POINTS).train()(images, targets=targets)
    guided = Guided(mgd.Distiller(teacher, student.train(), images, POINTS))
    guided.attach()
    losses = student(images, targets)
    found = guided.loss()
    guided.detach()
    torch.testing.assert_close(found.loss, out.loss)
    torch.testing.assert_close(losses, out.output)


def test_a_guided_loop_matches_by_steps_and_remembers_which():
    images, targets = batch(*SIZES)
    guided = Guided(mgd.Distiller(*pair(), images, POINTS), every_steps=2)
    due = [bool(guided.begin_step(step, [(images, targets)])) for step in range(5)]
    assert due == [True, False, True, False, True]
    other = Guided(mgd.Distiller(*pair(), images, POINTS), every_steps=2)
    other.load_state_dict(guided.state_dict())
    assert not other.begin_step(4, [(images, targets)])
    assert other.begin_step(6, [(images, targets)])


# --- padding


def test_the_canvas_is_that_of_the_detectors_own_transform():
    network = detector(size=40, max_size=64)
    images, _ = batch((32, 20), (20, 50), (31, 31))
    canvas = canvas_of(network.train(), images)
    state = torch.get_rng_state()
    prepared, _ = network.eval().transform(images)
    assert canvas.size == prepared.tensors.shape[-2:]
    assert canvas.image_sizes == tuple(prepared.image_sizes)
    assert canvas.original_sizes == ((32, 20), (20, 50), (31, 31))
    canvas_of(network.train(), images)
    assert torch.equal(state, torch.get_rng_state())
    inside = canvas.mask()
    for part, (height, width) in zip(inside, prepared.image_sizes, strict=True):
        assert part[:height, :width].all()
        assert part.sum() == height * width


def test_positions_in_the_padding_do_not_count():
    """Whatever the features there are: the loss and the matching see the images alone."""
    point = make_point()
    student, teacher = torch.randn(2, 4, 8, 8), torch.randn(2, 8, 8, 8)
    mask = torch.zeros(2, 32, 32)
    mask[0, :, :16], mask[1] = 1, 1
    other_student, other_teacher = student.clone(), teacher.clone()
    other_student[0, :, :, 4:], other_teacher[0, :, :, 4:] = 5.0, -3.0
    results = []
    for ours, theirs in ((student, teacher), (other_student, other_teacher)):
        point.matcher.reset()
        point.observe(ours, theirs, mask)
        point.matcher.solve()
        results.append((point.matcher.compute(), point(ours, theirs, mask)))
    torch.testing.assert_close(*results)


def test_an_image_alone_and_beside_padding_has_one_loss():
    point = make_point()
    student, teacher = torch.randn(1, 4, 8, 4), torch.randn(1, 8, 8, 4)
    wide = [torch.cat([maps, torch.randn_like(maps)], dim=3) for maps in (student, teacher)]
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    torch.testing.assert_close(point(*wide, mask), point(student, teacher))


def test_a_batch_of_equal_images_has_no_mask():
    images, _ = batch((64, 64), (64, 64))
    distiller = mgd.Distiller(*pair(), images, POINTS)
    assert distiller.guide(images).weights is None
    assert distiller.guide(batch(*SIZES)[0]).weights is not None


def test_networks_that_resize_differently_are_refused():
    images, _ = batch((64, 64))
    with pytest.raises(mgd.InputError, match=r"min_size=64.*min_size=32"):
        mgd.Distiller(detector(8), detector(4, size=32), images, POINTS)
    with pytest.raises(mgd.InputError, match="at random"):
        mgd.Distiller(detector(8), detector(4, min_size=(48, 64)), images, POINTS)


def test_a_list_of_sizes_needs_a_network_that_says_where_it_puts_them():
    with pytest.raises(mgd.InputError, match="GeneralizedRCNNTransform"):
        canvas_of(nn.ReLU(), batch(*SIZES)[0])
    images, _ = batch((8, 6), (8, 6))
    assert canvas_of(nn.ReLU(), images).size == (8, 6)


# --- weights


def make_point(**options):
    shapes = {"teacher_shape": (8, 8, 8), "student_shape": (4, 8, 8)}
    pair = mgd.PointPair(mgd.Tap("a"), mgd.Tap("b"), **shapes, **options)
    from mgd.method.choices import make_points

    return make_points([pair], "mgd", "amp", "scipy")[0].eval()


@pytest.mark.parametrize("loss", mgd.POINT_LOSSES)
def test_the_loss_is_a_weighted_mean(loss):
    """Ones change nothing, a constant factor changes nothing, and so does any image size."""
    point = make_point(loss=loss)
    student, teacher = torch.randn(2, 4, 8, 8), torch.randn(2, 8, 8, 8)
    plain = point(student, teacher)
    torch.testing.assert_close(point(student, teacher, torch.ones(2, 32, 32)), plain)
    weights = torch.rand(2, 8, 8)
    torch.testing.assert_close(
        point(student, teacher, weights), point(student, teacher, 5 * weights), rtol=1e-4, atol=1e-4
    )
    twice = [maps.repeat(1, 1, 2, 3) for maps in (student, teacher)]
    torch.testing.assert_close(point(*twice), plain, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(point(student, teacher, torch.zeros(2, 8, 8)), torch.zeros(2))


def test_weights_of_boxes_equal_the_reference():
    boxes = torch.tensor([[3.0, 2.5, 9.0, 17.0], [8.0, 8.0, 30.0, 12.0], [0.0, 0.0, 1.0, 1.0]])
    scores = torch.tensor([0.4, 0.9, 0.2])
    canvas = mgd.Canvas((32, 40), ((32, 36), (24, 40)), ((16, 18), (12, 20)))
    none = torch.zeros(0, 4), torch.zeros(0)
    fast = mgd.box_weights([boxes, none[0]], canvas, [scores, none[1]], outside=0.25)
    arrays = boxes.double().numpy(), scores.double().numpy()
    # The image is twice as large on the canvas, and a position has 4 pixels.
    slow = reference.box_weights(*arrays, (0.5, 0.5), (8, 10), 0.25)
    np.testing.assert_allclose(fast[0].numpy(), slow, rtol=1e-6)
    assert (fast[1] == 0.25).all()


def test_weights_may_come_from_the_teachers_answer():
    images, _ = batch(*SIZES)
    distiller = mgd.Distiller(*pair(score_thresh=0.0), images, POINTS).eval()
    seen = []

    def weights(output, canvas):
        seen.append((output, canvas))
        return mgd.score_weights(output, canvas)

    given = distiller(images, weights=weights)
    ((output, canvas),) = seen
    found = mgd.box_weights(
        [each["boxes"] for each in output], canvas, [each["scores"] for each in output]
    )
    torch.testing.assert_close(distiller(images, weights=found).loss, given.loss)
    assert not torch.equal(given.loss, distiller(images).loss)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (torch.ones(3, 4, 4), r"\(3, 4, 4\)"),
        (torch.ones(2, 4), r"\(2, 4\)"),
        (-torch.ones(2, 4, 4), "at least 0"),
        (torch.full((2, 4, 4), float("nan")), "finite"),
    ],
)
def test_weights_that_cannot_be_used_are_told(weights, said):
    images, _ = batch(*SIZES)
    distiller = mgd.Distiller(*pair(), images, POINTS)
    with pytest.raises(mgd.InputError, match=said):
        distiller(images, weights=weights)


# --- points, norms and margins


def test_auto_finds_stages_and_pyramid_levels_and_no_head():
    images, _ = batch((64, 64))
    points = mgd.discover_points(*pair(), images)
    taps = [(str(point.teacher), str(point.student), point.linear) for point in points]
    stages = [f"backbone.body.stage{i}.2:input" for i in (1, 2, 3)]
    levels = [f"backbone.fpn.layer_blocks.{i}:output" for i in (0, 1)]
    assert taps == [(s, s, False) for s in stages] + [(level, level, True) for level in levels]


def test_levels_have_the_plain_loss_and_shares_of_their_own():
    images, _ = batch((64, 64))
    distiller = mgd.Distiller(*pair(), images, [*POINTS, *LEVELS], feature_weight=10)
    losses = [point.comparison.loss for point in distiller.points]
    assert losses == ["partial_l2", "partial_l2", "l2", "l2"]
    weights = list(distiller.term_weights.values())
    # A stage or level of half the size weighs twice as much, per element, as the one before.
    np.testing.assert_allclose(np.array(weights) / weights[1], [0.5, 1, 0.5, 1])
    assert all(point.running_margin is None for point in distiller.points)


def test_the_loss_of_a_point_is_chosen_by_the_pair_or_for_all():
    images, _ = batch((64, 64))
    one = mgd.PointPair(mgd.Tap(LEVELS[0][0]), mgd.Tap(LEVELS[0][1]), loss="softmax")
    distiller = mgd.Distiller(*pair(), images, [POINTS[0], one], point_loss="l2")
    assert [point.comparison.loss for point in distiller.points] == ["l2", "softmax"]
    again = mgd.points_from_plain(*pair(), mgd.points_to_plain(distiller.points.pairs))
    assert [pair.loss for pair in again] == [None, "softmax"]
    with pytest.raises(mgd.InputError, match="point_loss"):
        mgd.Distiller(*pair(), images, POINTS, point_loss="l1")


@pytest.mark.parametrize("method", ["mgd", "mgd-adapter", "ofd"])
def test_a_group_norm_makes_images_independent(method):
    images = torch.rand(3, 3, 32, 32)
    torch.manual_seed(2)
    distiller = mgd.Distiller(*pair(), images, POINTS, norm="group", method=method)
    assert all(isinstance(point.norm, nn.GroupNorm) for point in distiller.points)
    student, teacher = torch.randn(3, 8, 16, 16), torch.randn(3, 16, 16, 16)
    point = distiller.train().points[0]
    alone = [point(s[None], t[None]) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(point(student, teacher), torch.cat(alone))
    with pytest.raises(mgd.InputError, match="norm"):
        mgd.Distiller(*pair(), images, POINTS, norm="layer")


def test_a_frozen_batch_norm_gives_the_margins():
    images, _ = batch((64, 64))
    teacher = detector(8, FrozenBatchNorm2d)
    for norm in teacher.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
    distiller = mgd.Distiller(teacher, detector(4), images, POINTS)
    for point, norm in zip(distiller.points, ("stage2.1", "stage3.1"), strict=True):
        assert point.pair.norm == f"backbone.body.{norm}"
        frozen = teacher.get_submodule(point.pair.norm)
        plain = nn.BatchNorm2d(len(frozen.weight))
        plain.weight.data, plain.bias.data = frozen.weight, frozen.bias
        torch.testing.assert_close(point.margin, mgd.margin_from_norm(plain))
    # Margins follow weights that are loaded.
    before = distiller.points[0].margin.clone()
    state = {k: v + 0.5 if k.endswith("bias") else v for k, v in teacher.state_dict().items()}
    teacher.load_state_dict(state)
    assert not torch.equal(before, distiller.points[0].margin)


# --- segmenters


def test_a_segmenter_is_distilled_with_its_class_scores():
    torch.manual_seed(3)
    images, masks = torch.rand(2, 3, 32, 32), torch.randint(3, (2, 32, 32))
    teacher, student = segmenter(8), segmenter(4)
    scores = mgd.PointPair(mgd.Tap("classifier"), mgd.Tap("classifier"), loss="softmax")
    points = [("backbone.0.stage3.2", "backbone.0.stage3.2"), scores]
    distiller = mgd.Distiller(teacher, student, images, points, feature_weight=3.0)
    assert [point.pair.linear for point in distiller.points] == [False, True]
    mgd.update_matching(distiller, [(images, masks)])
    distiller.train()
    out = distiller(images, weights=mgd.score_weights)
    loss = nn.functional.cross_entropy(out.logits, masks) + out.loss.mean()
    loss.backward()
    assert out.logits.shape == (2, 3, 32, 32)
    assert all(weight.grad is not None for weight in student.parameters())


def test_auto_takes_a_segmenters_backbone_alone():
    points = mgd.discover_points(segmenter(8), segmenter(4), torch.rand(1, 3, 32, 32))
    assert all(point.teacher.path.startswith("backbone.") for point in points)
    assert [point.size for point in points] == [(16, 16), (8, 8), (4, 4)]


# --- torchvision's own


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("retinanet_resnet50_fpn", "backbone.fpn.layer_blocks.2:output"),
        pytest.param(
            *("fcos_resnet50_fpn", "backbone.fpn.layer_blocks.2:output"), marks=pytest.mark.slow
        ),
        ("fasterrcnn_resnet50_fpn", "backbone.fpn.layer_blocks.3:output"),
        ("ssdlite320_mobilenet_v3_large", "backbone.features.1.3.2:input"),
    ],
)
def test_a_detector_of_torchvision_trains_under_another(name, last):
    images, targets = batch((64, 64), (48, 64))
    size = {} if "ssdlite" in name else {"min_size": 64, "max_size": 96}
    without = {"weights": None, "weights_backbone": None, "num_classes": 3}
    teacher, student = (torchvision.models.get_model(name, **without, **size) for _ in range(2))
    distiller = mgd.Distiller(teacher, student, images, norm="group", feature_weight=1e-3).train()
    stages = [point.pair for point in distiller.points if not point.pair.linear]
    assert len(stages) == 4
    assert all(pair.norm is not None for pair in stages)
    assert str(distiller.points.pairs[-1].teacher) == last
    out = distiller(images, targets=targets)
    total(out).backward()
    assert torch.isfinite(out.loss).all()
    assert all(each.grad is not None for each in distiller.points.parameters())
