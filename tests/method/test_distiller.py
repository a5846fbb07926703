"""Distiller: what is trained, what is frozen, and one loss per image and point."""

import copy
import io
import logging
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mgd


def stage(inputs, outputs, norm=True, stride=1):
    layers = [nn.Conv2d(inputs, outputs, 3, stride, padding=1)]
    return layers + ([nn.BatchNorm2d(outputs)] if norm else []) + [nn.ReLU(inplace=True)]


class Net(nn.Module):
    """Two stages, tapped in front of `low.-1` and `high.-1`, and a head."""

    def __init__(self, channels=(4, 6), norm=True, stride=1, classes=5):
        super().__init__()
        self.low = nn.Sequential(*stage(3, channels[0], norm))
        self.high = nn.Sequential(*stage(channels[0], channels[1], norm, stride))
        self.head = nn.Linear(channels[1], classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)

    def forward(self, x):
        return self.head(self.high(self.low(x)).mean((2, 3)))


IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(3))
POINTS = [("low.2", "low.2"), ("high.2", "high.2")]
BARE = [("low.1", "low.1"), ("high.1", "high.1")]  # without BatchNorm


def teacher_net(**options):
    return Net(**{"channels": (8, 14), **options})


def make(teacher=None, student=None, **options):
    return mgd.Distiller(
        teacher or teacher_net(),
        student or Net(),
        **{"points": POINTS, "example": IMAGES, "kd_weight": 1.0, **options},
    )


def figures(out):
    """Returns what a forward gives for each image, under names."""
    return {
        "loss": out.loss,
        **out.terms,
        "output": out.output,
        "point_losses": out.point_losses,
        "kd_loss": out.kd_loss,
    }


def assert_close(one, other, **tolerance):
    assert list(figures(one)) == list(figures(other))
    for name, value in figures(one).items():
        wanted = figures(other)[name]
        torch.testing.assert_close(value.to(wanted.dtype), wanted, **tolerance)


# --- what a forward gives


def test_forward_gives_the_students_logits_and_losses_per_image():
    distiller = make().eval()
    out = distiller(IMAGES)
    assert torch.equal(out.logits, distiller.student(IMAGES))
    assert out.point_losses.shape == (6, 2)
    assert out.kd_loss.shape == (6,)
    assert (out.point_losses > 0).all()
    assert (out.kd_loss > 0).all()


def test_losses_are_those_of_the_parts():
    distiller = make().eval()
    out = distiller(IMAGES)
    ours, theirs = (net.high[:2](net.low(IMAGES)) for net in (distiller.student, distiller.teacher))
    point = distiller.points[1]
    grouped = theirs[:, point.matcher.matching]
    margin = mgd.margin_from_norm(distiller.teacher.high[1])[point.matcher.matching].mean(0)
    target = mgd.REDUCERS["amp"].features(grouped)
    torch.testing.assert_close(
        out.point_losses[:, 1], mgd.partial_l2(point.norm(ours), target, margin)
    )
    logits = distiller.student(IMAGES), distiller.teacher(IMAGES)
    torch.testing.assert_close(out.kd_loss, mgd.logit_kd(*logits, 1.5))


@pytest.mark.parametrize("reducer", mgd.REDUCERS)
def test_every_reducer_trains(reducer):
    distiller = make(reducer=reducer)
    distiller.mark_matched()
    distiller(IMAGES).point_losses.sum().backward()
    assert distiller.student.low[0].weight.grad.any()


def test_images_do_not_mix_in_eval_mode():
    distiller = make().eval()
    together = distiller(IMAGES)
    for image in range(len(IMAGES)):
        alone = figures(distiller(IMAGES[image : image + 1]))
        for name, value in figures(together).items():
            torch.testing.assert_close(alone[name][0], value[image])


def test_temperature_reaches_the_kd_loss():
    teacher, student = teacher_net(), Net()
    warm = make(teacher, student, kd_temperature=4.0).eval()
    kd_loss = warm(IMAGES).kd_loss
    torch.testing.assert_close(kd_loss, mgd.logit_kd(student(IMAGES), teacher(IMAGES), 4.0))


def test_without_kd_the_loss_is_zero_and_outputs_may_differ():
    distiller = make(teacher_net(classes=9), kd_weight=0).eval()
    out = distiller(IMAGES)
    assert out.kd_loss.tolist() == [0] * 6
    assert out.logits.shape == (6, 5)
    assert out.point_losses.shape == (6, 2)


def test_without_points_logit_kd_is_left():
    distiller = make(points=()).eval()
    out = distiller(IMAGES)
    assert out.point_losses.shape == (6, 0)
    assert (out.kd_loss > 0).all()


# --- gradients


def test_gradients_reach_the_student_and_the_norms_and_never_the_teacher():
    distiller = make()
    distiller.mark_matched()
    out = distiller(IMAGES)
    (
        F.cross_entropy(out.logits, torch.arange(6) % 5)
        + out.point_losses.sum()
        + out.kd_loss.sum()
    ).backward()
    without = [
        name
        for name, parameter in distiller.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    # A convolution's bias before a BatchNorm has no effect, so its gradient is rounding or zero.
    assert [name for name in without if not name.endswith("0.bias")] == [
        f"frozen_teacher.tapped.network.{name}"
        for name, _ in distiller.teacher.named_parameters()
        if not name.endswith("0.bias")
    ]
    assert all(parameter.grad is None for parameter in distiller.teacher.parameters())


def test_the_teacher_runs_without_autograd():
    distiller = make()
    seen = []
    distiller.teacher.high.register_forward_hook(lambda _m, _i, out: seen.append(out))
    distiller.eval()(IMAGES.clone().requires_grad_())  # as images from a generator would
    assert not seen[0].requires_grad


def test_the_teachers_features_are_gone_before_the_student_starts():
    distiller, features, alive = make(), [], []
    distiller.teacher.high[1].register_forward_hook(
        lambda module, args, output: features.append(weakref.ref(output))
    )
    distiller.student.register_forward_pre_hook(
        lambda module, args: alive.extend(feature() is not None for feature in features)
    )
    distiller(IMAGES)
    assert alive == [False]


def test_the_loss_is_the_sum_of_the_weighted_terms():
    distiller = make(feature_weight=3.0, kd_weight=0.25).eval()
    out = distiller(IMAGES)
    assert list(out.terms) == list(distiller.term_weights) == ["kd", "mgd_1", "mgd_2"]
    unweighted = [out.kd_loss, *out.point_losses.unbind(1)]
    for loss, (name, weight) in zip(unweighted, distiller.term_weights.items(), strict=True):
        torch.testing.assert_close(out.terms[name], weight * loss)
    torch.testing.assert_close(out.loss, sum(out.terms.values()))
    assert distiller.term_weights["kd"] == 0.25


def test_the_paper_divides_by_a_factor():
    weights = make(loss_factor=50.0).term_weights
    assert weights == {"kd": 1.0, "mgd_1": 1 / 2 / 50, "mgd_2": 1 / 50}


@pytest.mark.parametrize("feature_weight", [20.0, 1.0])
def test_the_feature_weight_is_that_of_the_mean_per_element(feature_weight):
    """With a mean of 1 per element, the terms add up to the weight."""
    weights = make(feature_weight=feature_weight).term_weights
    elements = {"mgd_1": 4 * 8 * 8, "mgd_2": 6 * 8 * 8}
    total = sum(weights[name] * count for name, count in elements.items())
    assert total == pytest.approx(feature_weight)
    assert weights["mgd_1"] == pytest.approx(weights["mgd_2"] / 2)


@pytest.mark.parametrize(("pixels", "weight"), [(8, 512 / 200), (16, 2048 / 200), (32, 20)])
def test_auto_weighs_less_where_there_are_few_elements(pixels, weight):
    weights = make(example=torch.randn(2, 3, pixels, pixels)).term_weights
    elements = {"mgd_1": 4 * pixels**2, "mgd_2": 6 * pixels**2}
    total = sum(weights[name] * count for name, count in elements.items())
    assert total == pytest.approx(weight)


def test_images_without_a_label_take_the_teachers_class_in_dkd():
    distiller = make(kd="dkd").eval()
    guesses = distiller.teacher(IMAGES).argmax(1)
    labels = torch.tensor([0, 1, -1, 3, -1, 0])
    wanted = distiller(IMAGES, labels.where(labels >= 0, guesses))
    assert_close(distiller(IMAGES, labels), wanted)


def test_what_is_trained_can_be_wrapped_alone():
    distiller = make().eval()
    wrapped = nn.Sequential()
    wrapped.learner = distiller.learner
    assert not any("teacher" in name for name, _ in wrapped.named_modules())
    assert not any(
        parameter is other
        for parameter in wrapped.parameters()
        for other in distiller.teacher.parameters()
    )
    found = wrapped.learner(IMAGES, None, distiller.guide(IMAGES))
    assert_close(found, distiller(IMAGES), rtol=0, atol=0)


def test_the_points_print_as_a_table_and_can_be_read():
    points = make().points
    header, *rows = str(points).splitlines()
    assert header.split() == [
        "teacher",
        "student",
        "channels",
        "size",
        "G",
        "margin",
        "from",
        "pooled",
    ]
    assert [row.split()[:2] for row in rows] == [["low.2:input"] * 2, ["high.2:input"] * 2]
    assert [pair.groups for pair in points.pairs] == [2, 2]
    assert [point.pair.name for point in points] == ["low.2 -> low.2", "high.2 -> high.2"]


def test_training_lowers_the_feature_loss():
    distiller = make()
    distiller.mark_matched()
    weights = [*distiller.student.parameters(), *distiller.points.parameters()]
    optimizer = torch.optim.SGD(weights, lr=1e-3)
    losses = []
    for _ in range(40):
        loss = distiller(IMAGES).point_losses.sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


# --- the teacher is frozen


def test_the_teacher_is_in_eval_mode_whatever_train_is_called_with():
    outer = nn.Sequential(make(teacher_net().train()))
    for mode in (True, False, True):
        outer.train(mode)
        assert not any(module.training for module in outer[0].teacher.modules())
        assert outer[0].student.training is mode
        assert outer[0].points[0].norm.training is mode


@pytest.mark.parametrize("mode", [True, False])
def test_the_student_keeps_its_mode(mode):
    student = Net().train(mode)
    assert make(student=student).training is mode
    assert student.low[1].training is mode


def test_training_leaves_the_teacher_as_it_was():
    distiller = make()
    distiller.mark_matched()
    before = copy.deepcopy(distiller.teacher.state_dict())
    distiller(IMAGES).point_losses.sum().backward()
    torch.optim.SGD(distiller.parameters(), lr=0.1).step()
    for name, value in distiller.teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_making_and_observing_leave_the_students_statistics_as_they_were():
    student = Net()
    before = copy.deepcopy(student.state_dict())
    distiller = make(student=student)
    distiller.observe(IMAGES)
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name])
    assert distiller.points[0].norm.num_batches_tracked == 0


# --- state


def test_the_networks_are_the_objects_that_were_given():
    teacher, student = teacher_net(), Net()
    distiller = make(teacher, student)
    assert distiller.teacher is teacher
    assert distiller.student is student


def test_the_teacher_is_not_in_the_state_dict_and_is_not_missed():
    distiller = make()
    state = distiller.state_dict()
    assert not any("teacher" in key for key in state)
    for part in ("matcher.matching", "margin", "norm.weight", "norm.running_mean"):
        assert f"learner.points.1.{part}" in state
    distiller.load_state_dict(state, strict=True)


def test_what_else_is_missing_is_still_an_error():
    distiller = make()
    state = distiller.state_dict()
    del state["learner.points.0.norm.weight"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\).*points.0.norm.weight"'):
        distiller.load_state_dict(state)


def test_state_restores_losses_inside_another_module():
    one = make()
    one.mark_matched()
    one(IMAGES)  # moves the norms' statistics
    teacher = copy.deepcopy(one.teacher)
    other = make(teacher, Net())
    nn.ModuleDict({"d": other}).load_state_dict(nn.ModuleDict({"d": one}).state_dict())
    assert_close(other.eval()(IMAGES), one.eval()(IMAGES), rtol=0, atol=0)


def test_the_students_own_state_dict_is_that_of_the_plain_network():
    student = Net()
    keys = list(student.state_dict())
    assert list(make(student=student).student.state_dict()) == keys


# --- copies and files


def copied(distiller):
    return copy.deepcopy(distiller)


def saved(distiller):
    file = io.BytesIO()
    torch.save(distiller, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


VIEW = mgd.View((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), size=8)
CROPS = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8)


@pytest.mark.parametrize("reducer", mgd.REDUCERS)
@pytest.mark.parametrize("twin_of", [copied, saved])
def test_a_copied_or_saved_distiller_works_by_itself(twin_of, reducer):
    views = {"teacher_view": VIEW, "student_view": VIEW, "example": CROPS}
    distiller = make(reducer=reducer, kd="dkd", **views).eval()
    labels = torch.arange(6) % 5
    twin = twin_of(distiller)
    assert twin.student is not distiller.student
    outs = []
    for each in (twin, distiller):
        torch.manual_seed(2)  # of random drop
        outs.append(each(CROPS, labels))
    assert_close(*outs, rtol=0, atol=0)
    twin.mark_matched()
    twin.train()(CROPS, labels).loss.sum().backward()
    assert twin.student.low[0].weight.grad.any()
    assert distiller.student.low[0].weight.grad is None
    mgd.update_matching(twin, [CROPS])


@pytest.mark.parametrize("twin_of", [copied, saved])
def test_a_copy_follows_the_weights_of_its_own_teacher_and_gives_its_networks_back(twin_of):
    networks = odd_networks()
    before = switches(*networks)
    distiller = make(*networks)
    margins = [point.margin.clone() for point in distiller.points]
    twin = twin_of(distiller)
    state = {key: value + 0.3 for key, value in twin.teacher.state_dict().items()}
    twin.teacher.load_state_dict(state)
    for point, norm in zip(twin.points, (twin.teacher.low[1], twin.teacher.high[1]), strict=True):
        assert torch.equal(point.margin, mgd.margin_from_norm(norm))
    assert all(map(torch.equal, margins, [point.margin for point in distiller.points]))
    twin.close()
    assert switches(twin.teacher, twin.student)[:2] == before[:2]


# --- margins follow the teacher's weights


@pytest.mark.parametrize("part", ["", "high"])
def test_margins_follow_when_teacher_weights_are_loaded(part):
    distiller = make()
    module = distiller.teacher.get_submodule(part)
    module.load_state_dict({key: value + 0.3 for key, value in module.state_dict().items()})
    for point, norm in zip(
        distiller.points, (distiller.teacher.low[1], distiller.teacher.high[1]), strict=True
    ):
        assert torch.equal(point.margin, mgd.margin_from_norm(norm))


def test_margins_of_a_copy_are_left_alone():
    distiller = make()
    before = distiller.points[1].margin.clone()
    twin = copy.deepcopy(distiller.teacher)
    twin.load_state_dict({key: value + 0.3 for key, value in twin.state_dict().items()})
    assert torch.equal(distiller.points[1].margin, before)


def test_without_a_batch_norm_the_margin_is_measured():
    distiller = make(teacher_net(norm=False), Net(norm=False), points=BARE).eval()
    features = distiller.teacher.high[0](distiller.teacher.low(IMAGES))
    torch.testing.assert_close(distiller.points[1].margin, mgd.margin_from_features(features))
    assert torch.isfinite(distiller(IMAGES).point_losses).all()


# --- channels and sizes that differ


def test_a_student_wider_than_its_teacher():
    distiller = make(Net(channels=(3, 4)), Net(channels=(8, 14))).eval()
    assert distiller.points[1].matcher.matching.shape == (1, 14)
    assert distiller(IMAGES).point_losses.shape == (6, 2)


@pytest.mark.parametrize(("teacher_stride", "student_stride"), [(2, 1), (1, 2), (1, 3)])
def test_of_unequal_maps_the_larger_is_pooled(teacher_stride, student_stride):
    distiller = make(teacher_net(stride=teacher_stride), Net(stride=student_stride)).eval()
    size = -(-8 // max(teacher_stride, student_stride))
    student = distiller.student.high[:2](distiller.student.low(IMAGES))
    teacher = distiller.teacher.high[:2](distiller.teacher.low(IMAGES))
    pooled = [F.adaptive_avg_pool2d(x, size) for x in (student, teacher)]
    for ours, theirs in zip(distiller.points[1].align(student, teacher), pooled, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert distiller(IMAGES).point_losses.shape == (6, 2)


@pytest.mark.parametrize("pixels", [(8, 8), (12, 10), (5, 7)])
@pytest.mark.parametrize(("teacher_stride", "student_stride"), [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("reducer", ["amp", "sp"])
def test_at_every_image_size_the_teacher_is_pooled_first_and_reduced_then(
    pixels, teacher_stride, student_stride, reducer
):
    """Also where another size than the example's makes the two maps equal, or unequal."""
    networks = teacher_net(stride=teacher_stride), Net(stride=student_stride)
    distiller = make(*networks, reducer=reducer).eval()
    images = torch.randn(3, 3, *pixels)
    teacher, student = (net.high[:2](net.low(images)) for net in networks)
    point = distiller.points[1]
    size = [min(sizes) for sizes in zip(teacher.shape[2:], student.shape[2:], strict=True)]
    teacher, student = (F.adaptive_avg_pool2d(maps, size) for maps in (teacher, student))
    reduced = mgd.REDUCERS[reducer].features(teacher[:, point.matcher.matching])
    margin = mgd.REDUCERS[reducer].margin(point.margin[point.matcher.matching])
    wanted = mgd.partial_l2(point.norm(student), reduced, margin)
    # Per element, and so as many as an image of the example has.
    wanted = wanted / reduced[0].numel() * point.num_elements
    torch.testing.assert_close(distiller(images).point_losses[:, 1], wanted)


def test_a_network_changed_afterwards_is_told():
    distiller = make().eval()
    distiller.student.low = nn.Sequential(*stage(3, 4))
    with pytest.raises(mgd.TapError, match=r"tap 'low.2:input' did not fire"):
        distiller(IMAGES)


def test_channels_changed_afterwards_are_told():
    distiller = make().eval()
    distiller.student.high[0], distiller.student.high[1] = stage(4, 7)[:2]
    distiller.student.head = nn.Linear(7, 5)
    with pytest.raises(mgd.TapError, match=r"'high.2:input' reads 7 channels, but read 6"):
        distiller.eval()(IMAGES)


# --- moving


def test_moving_to_double_gives_the_same_losses():
    distiller = make().eval()
    single = distiller(IMAGES)
    double = distiller.to(torch.float64)(IMAGES.double())
    assert double.logits.dtype == torch.float64
    assert double.point_losses.dtype == double.kd_loss.dtype == torch.float32
    assert_close(double, single, rtol=1e-4, atol=1e-4)


def test_moving_to_bfloat16_keeps_losses_in_float32():
    distiller = make().eval().to(torch.bfloat16)
    out = distiller(IMAGES.bfloat16())
    assert out.point_losses.dtype == out.kd_loss.dtype == torch.float32
    assert torch.isfinite(out.point_losses).all()


def test_autocast_keeps_losses_in_float32():
    distiller = make().eval()
    exact = distiller(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = distiller(IMAGES)
    assert mixed.point_losses.dtype == mixed.kd_loss.dtype == torch.float32
    torch.testing.assert_close(mixed.point_losses, exact.point_losses, rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("precision", "around", "teachers"),
    [
        (torch.bfloat16, False, torch.bfloat16),
        (torch.float32, True, torch.float32),
        (None, True, torch.bfloat16),
        (None, False, torch.float32),
    ],
)
def test_the_teacher_has_a_precision_of_its_own_and_statistics_and_losses_do_not(
    precision, around, teachers
):
    distiller, seen = make(), {}
    wanted = copy.deepcopy(distiller)(IMAGES)
    distiller.close()
    distiller = make(distiller.teacher, distiller.student, teacher_precision=precision)
    for name, network in (("teacher", distiller.teacher), ("student", distiller.student)):
        network.high[0].register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: output.dtype})
        )
    for point in distiller.points:
        point.matcher.reset()
    with torch.autocast("cpu", torch.bfloat16, enabled=around):
        found = distiller(IMAGES, track=True)
    assert seen == {"teacher": teachers, "student": torch.bfloat16 if around else torch.float32}
    assert found.point_losses.dtype == found.kd_loss.dtype == torch.float32
    torch.testing.assert_close(found.point_losses, wanted.point_losses, rtol=0.1, atol=1)
    assert distiller.points[0].matcher.distance_sum.dtype == torch.float32
    assert distiller.points[0].matcher.image_count == 6


def test_moving_to_another_device_takes_everything_along():
    distiller = make().to("meta")
    tensors = [*distiller.parameters(), *distiller.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


# --- making and closing


def test_close_gives_both_networks_back():
    teacher, student = teacher_net().train(), Net()
    teacher.low.eval()
    teacher.head.bias.requires_grad_(False)
    with make(teacher, student):
        assert (student.low[2].inplace, teacher.high[2].inplace) == (False, False)
        assert not any(weight.requires_grad for weight in teacher.parameters())
    assert [module.training for module in (teacher, teacher.low, teacher.high)] == [
        True,
        False,
        True,
    ]
    frozen = [name for name, weight in teacher.named_parameters() if not weight.requires_grad]
    assert frozen == ["head.bias"]
    for net in (teacher, student):
        for module in net.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
            assert not module._load_state_dict_post_hooks
        assert net.low[2].inplace
        assert net.high[2].inplace


def switches(*networks):
    """Every mode, `requires_grad` and `inplace`, and how many hooks there are."""
    modules = [module for network in networks for module in network.modules()]
    weights = [weight for network in networks for weight in network.parameters()]
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_load_state_dict_post_hooks")
    return [
        [(module.training, vars(module).get("inplace")) for module in modules],
        [weight.requires_grad for weight in weights],
        [len(vars(module)[name]) for module in modules for name in hooks],
    ]


def odd_networks():
    """Networks with some parts in training mode, some weights frozen, in-place activations."""
    teacher, student = teacher_net().train(), Net().eval()
    for network, part in ((teacher, teacher.low), (student, student.high)):
        part.train(not network.training)
        network.low[1].weight.requires_grad_(False)
        network.head.bias.requires_grad_(False)
    return teacher, student


def test_close_gives_back_every_switch_of_both_networks_and_keeps_what_was_learned():
    networks = odd_networks()
    before, weight = switches(*networks), networks[1].high[0].weight.clone()
    with make(*networks) as distiller:
        distiller.mark_matched()
        distiller.train().requires_grad_(True)
        distiller(IMAGES).loss.sum().backward()
        torch.optim.SGD(distiller.learner.parameters(), lr=0.1).step()
    assert switches(*networks) == before
    assert not torch.equal(networks[1].high[0].weight, weight)
    networks[1].train()  # a second close is none of its business
    distiller.close()
    assert all(module.training for module in networks[1].modules())


def interrupted(output):
    """What Ctrl-C does; the signal itself is ignored in a job in the background of a shell."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"points": [("low.2", "no.such")]}, mgd.TapError),
        ({"reducer": "max"}, mgd.InputError),
        ({"loss_factor": -1.0}, mgd.InputError),
        ({"solver": "lapjv"}, ValueError),
        ({"example": IMAGES * float("nan")}, ValueError),
        ({"teacher_output": lambda out: 1 / 0}, ZeroDivisionError),
        ({"teacher_output": interrupted}, KeyboardInterrupt),
    ],
    ids=["points", "reducer", "weights", "solver", "NaN", "output", "interrupt"],
)
def test_a_start_that_fails_half_way_gives_back_every_switch(options, error):
    networks = odd_networks()
    before = switches(*networks)
    with pytest.raises(error):
        make(*networks, **options)
    assert switches(*networks) == before


def test_the_first_training_step_warns_of_an_unsolved_matching_once(caplog):
    distiller = make()
    distiller.eval()(IMAGES)
    assert not caplog.records
    for _ in range(2):
        distiller.train()(IMAGES)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "call mgd.update_matching first" in caplog.text


def test_a_loaded_matching_needs_no_warning(caplog):
    distiller = make()
    distiller.load_state_dict(make().state_dict())
    distiller.train()(IMAGES)
    assert not caplog.records


def test_the_first_matching_is_that_of_the_example():
    distiller = make().eval()
    student = distiller.student.low[:2](IMAGES)
    teacher = distiller.teacher.low[:2](IMAGES)
    matching = mgd.assign(mgd.channel_distance(student, teacher))
    assert torch.equal(distiller.points[0].matcher.matching, matching)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reducer": "max"}, "unknown `reducer` 'max'; choose one of sm, rd, amp, sp"),
        (
            {"method": "best"},
            "unknown `method` 'best'; choose one of mgd, mgd-adapter, fitnet, ofd",
        ),
        ({"kd": "best"}, "unknown `kd` 'best'; choose one of kd, dkd, dist"),
        ({"kd_temperature": 0.0}, r"`kd_temperature` \(=0.0\) must be above 0"),
        ({"kd_weight": -1.0}, r"`kd_weight` \(=-1.0\) must be at least 0; 0 leaves KD out"),
        ({"feature_weight": -1.0}, r"`feature_weight` \(=-1.0\) must be at least 0, or 'auto'"),
        ({"loss_factor": 0.0}, r"`loss_factor` \(=0.0\) must be above 0, or None"),
        ({"points": (), "kd_weight": 0}, "nothing to teach: there are no `points` and `kd_weight`"),
        ({"points": [("low.2", "lov.2")]}, "Net has no module 'lov.2'; nearest: low.2"),
        ({"solver": "lapjv"}, "unknown solver 'lapjv'"),
    ],
)
def test_an_unusable_argument_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_logits_of_other_classes_are_told():
    with pytest.raises(mgd.InputError, match=r"\(6, 9\).*\(6, 5\).*set `kd_weight` to 0"):
        make(teacher_net(classes=9))


def test_one_network_cannot_be_both():
    network = Net()
    with pytest.raises(mgd.InputError, match="teacher and student are one network; give two"):
        make(network, network)


@pytest.mark.parametrize("how", ["inside", "around", "layer", "weight", "memory"])
def test_networks_that_share_weights_are_told(how):
    teacher, student = teacher_net(), teacher_net()
    taps, name = POINTS, "low.0.weight"
    if how == "inside":
        student, name = nn.Sequential(teacher), "0.low.0.weight"
        taps = [(ours, f"0.{ours}") for ours, _ in POINTS]
    elif how == "around":
        teacher = nn.Sequential(student)
        taps = [(f"0.{ours}", ours) for ours, _ in POINTS]
    elif how == "layer":
        student.head, name = teacher.head, "head.weight"
    elif how == "weight":
        student.high[0].weight, name = teacher.high[0].weight, "high.0.weight"
    else:
        student.head.load_state_dict(teacher.head.state_dict(), assign=True)
        name = "head.weight"
    with pytest.raises(mgd.InputError, match=f"the student's '{name}' is the teacher's as well"):
        make(teacher, student, points=taps)
    make(teacher, copy.deepcopy(student), points=taps).close()


def test_a_failed_start_leaves_the_networks_alone():
    teacher, student = teacher_net(classes=9), Net()
    with pytest.raises(mgd.InputError):
        make(teacher, student)
    hooks = [m for net in (teacher, student) for m in net.modules() if m._forward_pre_hooks]
    assert hooks == []
    assert student.low[2].inplace
    assert all(parameter.requires_grad for parameter in teacher.parameters())


def test_a_norm_that_is_no_batch_norm_is_told():
    taps = mgd.Tap("high.2", "input"), mgd.Tap("high.2", "input")
    with pytest.raises(mgd.InputError, match="norm 'head' is no BatchNorm"):
        make(points=[mgd.PointPair(*taps, norm="head")])


def test_a_given_norm_is_kept():
    taps = mgd.Tap("high.0", "output"), mgd.Tap("high.0", "output")
    distiller = make(points=[mgd.PointPair(*taps, norm="high.1")])
    margin = mgd.margin_from_norm(distiller.teacher.high[1])
    assert torch.equal(distiller.points[0].margin, margin)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_distiller_gives_the_same_losses():
    distiller = make().eval()
    compiled = torch.compile(distiller, backend="eager")
    assert_close(compiled(IMAGES), distiller(IMAGES))
    torch._dynamo.reset()


class OfFeatures(nn.Module):
    """A teacher that returns its features in a container, and no scores."""

    def __init__(self, kind):
        super().__init__()
        self.inner, self.kind = mgd.create_model("cifar_resnet8_x0_5", 10), kind

    def forward(self, images):
        return self.kind(self.inner(images))


def _model_output(features):
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=features)


@pytest.mark.parametrize(
    "kind", [lambda x: (x, x), lambda x: {"features": x}, lambda x: None, _model_output]
)
def test_a_teacher_without_scores_teaches_by_its_features(kind):
    if kind is _model_output:
        pytest.importorskip("transformers")
    teacher, student = OfFeatures(kind), mgd.create_model("cifar_resnet8_x0_25", 10)
    images = torch.randn(2, 3, 32, 32)
    with mgd.Distiller(teacher, student, images, kd_weight=0.0) as distiller:
        mgd.update_matching(distiller, [images])
        out = distiller(images)
        assert out.loss.isfinite().all()
        assert list(out.terms) == ["mgd_1", "mgd_2", "mgd_3"]
        out.loss.mean().backward()
    with pytest.raises(mgd.InputError, match="in which no class scores are known"):
        mgd.Distiller(teacher, student, images, kd_weight=1.0)
