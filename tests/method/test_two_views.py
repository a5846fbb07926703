"""Views: each network of a distiller sees one batch in its own size, colours and normalisation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.transforms.v2 import functional as images_

import mgd
from mgd.views import Preprocess

CROPS = torch.randint(
    256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
)
HALF = mgd.View((0.5, 0.4, 0.6), (0.5, 0.3, 0.2), size=32)
IMAGENET = mgd.View(size=32)
POINTS = [("low.1", "low.1"), ("high.1", "high.1")]


class Net(nn.Module):
    """Two convolutions, tapped before `low.1` and `high.1`, and a head."""

    def __init__(self, channels=(4, 6), colours=3):
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(colours, channels[0], 3, 2, 1), nn.ReLU())
        self.high = nn.Sequential(nn.Conv2d(*channels, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(channels[1], 5)

    def forward(self, x):
        return self.head(self.high(self.low(x)).mean((2, 3)))


def networks(**options):
    torch.manual_seed(1)
    return Net((8, 12), **options), Net(**options)


def make(example=CROPS, pair=None, **options):
    options = {"points": POINTS, "kd_weight": 1.0, **options}
    return mgd.Distiller(*(pair or networks()), example, **options)


def by_hand(view, crops=CROPS):
    """A batch as a network with this view takes it, in RGB."""
    images = crops.float() / 255
    if crops.shape[-1] != view.size:
        images = images_.resize(images, [view.size] * 2, view.mode, antialias=True)
    return images_.normalize(images, list(view.mean), list(view.std))


def matchings(distiller):
    return [point.matcher.matching for point in distiller.points]


def assert_same(found, wanted):
    for name in ("loss", "output", "point_losses", "kd_loss"):
        # Dividing by 255 first, or the mean by it, differs in the last digits.
        torch.testing.assert_close(
            getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("crops", [CROPS, CROPS.float() / 255], ids=["uint8", "0 to 1"])
def test_equal_views_are_the_normalisation_before_the_call(crops):
    seen = make(crops, teacher_view=HALF, student_view=HALF)
    normalised = make(by_hand(HALF))
    assert_same(seen.eval()(crops), normalised.eval()(by_hand(HALF)))
    assert all(map(torch.equal, matchings(seen), matchings(normalised)))


def test_without_views_the_networks_get_the_very_same_images():
    distiller, images, got = make(by_hand(HALF)).eval(), by_hand(HALF), []
    for network in (distiller.teacher, distiller.student):
        network.register_forward_pre_hook(lambda module, args: got.append(args[0]))
    distiller(images)
    assert [each is images for each in got] == [True, True]


class Given(nn.Module):
    """A network that ignores what it is given and takes other images, prepared by hand."""

    def __init__(self, network, images):
        super().__init__()
        self.network, self.images = network, images

    def forward(self, x):
        return self.network(self.images[: len(x)])


@pytest.mark.parametrize("view", [HALF, HALF.replace(size=48), HALF.replace(size=20)])
def test_two_views_are_two_batches_prepared_by_hand(view):
    """The teacher's features, the matching and every loss, whatever the teacher's size."""
    seen = make(teacher_view=view, student_view=IMAGENET).eval()
    teacher, student = networks()
    images = by_hand(view)
    (features, _), output = seen.frozen_teacher(CROPS)
    torch.testing.assert_close(features, teacher.low[0](images))
    torch.testing.assert_close(output, teacher(images))
    pair = Given(teacher, images), Given(student, by_hand(IMAGENET))
    points = [(f"network.{ours}", f"network.{theirs}") for ours, theirs in POINTS]
    wanted = make(torch.zeros(4, 3, 32, 32), pair, points=points).eval()
    assert_same(seen(CROPS), wanted(torch.zeros(4, 3, 32, 32)))
    assert all(map(torch.equal, matchings(seen), matchings(wanted)))


def test_one_view_alone_leaves_the_other_network_the_images_as_they_are():
    crops = CROPS.float() / 255
    for side, (teacher, student) in enumerate([(by_hand(HALF), crops), (crops, by_hand(HALF))]):
        distiller = make(crops, **{("teacher_view", "student_view")[side]: HALF}).eval()
        out = distiller(crops)
        torch.testing.assert_close(out.output, distiller.student(student))
        kd_loss = mgd.logit_kd(distiller.student(student), distiller.teacher(teacher), 1.5)
        torch.testing.assert_close(out.kd_loss, kd_loss)


@pytest.mark.parametrize("colour", ["BGR", "L"])
def test_colours_are_each_networks_own(colour):
    grey = mgd.View((0.5,), (0.25,), size=32, colour="L")
    view = grey if colour == "L" else HALF.replace(colour="BGR")
    teacher, student = Net((8, 12), colours=view.num_channels), Net()
    distiller = make(CROPS, (teacher, student), teacher_view=view, student_view=HALF).eval()
    images = Preprocess(view)(CROPS)
    assert images.shape[1] == view.num_channels
    torch.testing.assert_close(distiller.frozen_teacher(CROPS)[1], teacher(images))


# --- networks that take one size alone


def small_vit(pixels):
    """A ViT of 14 px patches, which takes images of one size and no other."""
    return VisionTransformer(pixels, 14, 4, 2, 12, 24, num_classes=5)


@pytest.mark.parametrize("points", ["auto", [("encoder.layers.encoder_layer_3", "high.1")]])
def test_a_large_vit_teaches_a_small_cnn_from_one_batch(points):
    """As a DINOv2 of 518 px teaches a MobileNet of 224 px: here 70 px and 32 px."""
    vit, student = small_vit(70), Net()
    views = {"teacher_view": HALF.replace(size=70), "student_view": IMAGENET}
    crops = torch.randint(256, (4, 3, 70, 70), dtype=torch.uint8)
    with mgd.Distiller(vit, student, crops, points, kd_weight=1.0, **views) as distiller:
        assert {pair.teacher_shape[1:] for pair in distiller.points.pairs} == {(5, 5)}
        assert distiller.points.pairs[-1].student_shape == (6, 8, 8)
        [*reports] = mgd.update_matching(distiller, [(crops, None), (crops, None)])
        assert [report.images for report in reports] == [8] * len(distiller.points)
        before = copy.deepcopy(student.state_dict())
        optimizer = torch.optim.SGD(distiller.learner.parameters(), lr=1e-3)
        out = distiller.train()(crops)
        (F.cross_entropy(out.logits, torch.arange(4)) + out.loss.mean()).backward()
        optimizer.step()
    assert all(weight.grad is None for weight in vit.parameters())
    assert not torch.equal(student.low[0].weight, before["low.0.weight"])


@pytest.mark.parametrize("pixels", [(32, 32), (40, 24), (17, 60)])
@pytest.mark.parametrize("track", [False, True])
def test_crops_of_another_size_than_the_examples(pixels, track):
    views = {"teacher_view": HALF.replace(size=48), "student_view": IMAGENET}
    distiller = make(**views).eval()
    crops = torch.randint(256, (2, 3, *pixels), dtype=torch.uint8)
    wanted = make(crops, (distiller.teacher, distiller.student), **views).eval()
    wanted.load_state_dict(distiller.state_dict())
    assert_same(distiller(crops, track=track), wanted(crops))


def test_discovery_gives_each_network_its_own_example():
    vit, student = small_vit(28), Net()
    small, large = torch.randn(1, 3, 28, 28), torch.randn(1, 3, 64, 64)
    found = mgd.discover_points(vit, student, large, teacher_example=small)
    assert found[-1].teacher_shape == (12, 2, 2)
    assert found[-1].student_shape == (6, 16, 16)
    resolved = mgd.inside.resolve_points(vit, student, large, found, teacher_example=small)
    assert resolved == found
    with pytest.raises(mgd.InputError, match="VisionTransformer cannot run on an example"):
        mgd.discover_points(vit, student, large)


# --- the rest of a distiller, with views


def test_statistics_are_those_of_each_networks_view():
    distiller = make(teacher_view=HALF.replace(size=48), student_view=IMAGENET)
    mgd.update_matching(distiller, CROPS.split(3))
    teacher = distiller.teacher.low[0](by_hand(HALF.replace(size=48)))
    student = distiller.student.low[0](by_hand(IMAGENET))
    distance = mgd.channel_distance(student, F.adaptive_avg_pool2d(teacher, student.shape[2:]))
    torch.testing.assert_close(distiller.points[0].matcher.compute(), distance)
    torch.testing.assert_close(
        distiller.points[0].margin,
        mgd.margin_from_features(F.adaptive_avg_pool2d(teacher, student.shape[2:])),
    )


def test_state_dicts_know_nothing_of_views():
    one, other = make(teacher_view=HALF, student_view=HALF), make(by_hand(HALF))
    assert list(one.state_dict()) == list(other.state_dict())
    assert list(one.student.state_dict()) == list(other.student.state_dict())
    one.load_state_dict(other.state_dict())


def test_what_ddp_wraps_takes_the_same_crops():
    distiller = make(teacher_view=HALF.replace(size=48), student_view=IMAGENET).eval()
    assert_same(distiller.learner(CROPS, None, distiller.guide(CROPS)), distiller(CROPS))


def replicate(module):
    """Copies as DataParallel does, on one device: shallow, with weights that are no parameters."""
    replica = module._replicate_for_data_parallel()
    for name, child in module.named_children():
        replica._modules[name] = replicate(child)
    for name, weight in module._parameters.items():
        setattr(replica, name, weight.detach() * 1)
    return replica


def test_a_replica_of_data_parallel_sees_its_own_share():
    distiller = make(teacher_view=HALF.replace(size=48), student_view=IMAGENET).eval()
    for share in CROPS.chunk(2):
        assert_same(replicate(distiller)(share), distiller(share))


def test_precision_and_channels_last_change_little():
    views = {"teacher_view": HALF.replace(size=48), "student_view": IMAGENET}
    pair = networks()
    wanted = make(pair=pair, **views).eval()
    exact = wanted(CROPS)
    for network in pair:
        network.to(memory_format=torch.channels_last)
    distiller = make(pair=pair, teacher_precision=torch.bfloat16, **views).eval()
    distiller.load_state_dict(wanted.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        found = distiller(CROPS.contiguous(memory_format=torch.channels_last))
    assert found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss, exact.loss, rtol=0.1, atol=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_distiller_with_views_gives_the_same_losses():
    distiller = make(teacher_view=HALF.replace(size=48), student_view=IMAGENET).eval()
    assert_same(torch.compile(distiller, backend="eager")(CROPS), distiller(CROPS))
    torch._dynamo.reset()


# --- images that do not fit


@pytest.mark.parametrize(
    ("example", "views", "message"),
    [
        (by_hand(HALF), {"student_view": HALF}, r"`example` goes from -.* `student_view` normal"),
        (CROPS.float(), {"teacher_view": HALF}, r"`example` goes from 0 to 255; `teacher_view`"),
        (CROPS, {"teacher_view": HALF}, r"`example` is uint8, but the student .* `student_view`"),
        (CROPS, {"student_view": HALF}, r"`example` is uint8, but the teacher .* `teacher_view`"),
        (CROPS, {}, r"`example` is uint8, but the teacher takes floating-point numbers"),
        (
            CROPS[:, :1] / 255,
            {"student_view": HALF},
            r"shape \(4, 1, 32, 32\); .* must be RGB images",
        ),
        (CROPS[0], {"teacher_view": HALF}, r"shape \(3, 32, 32\); for `teacher_view` it must be"),
    ],
)
def test_an_example_that_does_not_fit_the_views_is_told(example, views, message):
    with pytest.raises(mgd.InputError, match=message):
        make(example, **views)
