"""Discovery: the points of any two networks, from outside and leaving no trace."""

import copy
import io
import logging
import pickle
import time

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn
from torchvision.models import DenseNet, SwinTransformer, VisionTransformer
from torchvision.ops import SqueezeExcitation

import mgd
from mgd.inside.points import points_from_plain, points_to_plain
from mgd.models.pairs import known_points


def conv(before, after, stride=1, activation=nn.ReLU, norm=nn.BatchNorm2d):
    layers = nn.Conv2d(before, after, 3, stride, padding=1, bias=False), norm(after), activation()
    return nn.Sequential(*layers)


class Cnn(nn.Module):
    """Four stages of two convolutions, at strides 2, 4, 8 and 16."""

    def __init__(self, widths=(4, 6, 8, 10), colours=3, num_classes=5, **kinds):
        super().__init__()
        before = (colours, *widths)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(conv(b, a, 2, **kinds), conv(a, a, **kinds))
                for b, a in zip(before, widths, strict=False)
            )
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x):
        return self.head(self.stages(x).mean((2, 3)))


class FunctionalBlock(nn.Module):
    """A residual block whose activations are functions, in place or not."""

    def __init__(self, before, after, inplace):
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv2d(b, after, 3, s, padding=1) for b, s in ((before, 2), (after, 1))
        )
        self.norm1, self.norm2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.inplace = inplace

    def forward(self, x):
        x = F.relu(self.norm1(self.conv1(x)), inplace=self.inplace)
        return F.relu(self.norm2(self.conv2(x)) + x, inplace=self.inplace)


class FunctionalCnn(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.block1, self.block2 = (FunctionalBlock(b, a, inplace) for b, a in ((3, 6), (6, 8)))
        self.conv3, self.norm3 = nn.Conv2d(8, 10, 3, 2, padding=1), nn.BatchNorm2d(10)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = self.norm3(self.conv3(self.block2(self.block1(x))))
        return self.head(F.relu(x).mean((2, 3)))


class Inception(nn.Module):
    """Two branches, each with an activation of its own, side by side."""

    def __init__(self, before, after):
        super().__init__()
        self.left, self.right = conv(before, after, 2), conv(before, after, 2)

    def forward(self, x):
        return torch.cat([self.left(x), self.right(x)], 1)


def vit(layers=6, size=32, **kinds):
    settings = {"num_heads": 2, "hidden_dim": 12, "mlp_dim": 24, "num_classes": 5, **kinds}
    return VisionTransformer(image_size=size, patch_size=8, num_layers=layers, **settings)


def swin():
    return SwinTransformer([4, 4], 8, [1, 1, 2, 1], [1, 1, 1, 1], [2, 2], num_classes=5)


def images(size=(32, 32), batch=2, colours=3):
    return torch.randn(batch, colours, *size)


def found(teacher, student, example=None):
    """The points as pairs of texts."""
    points = mgd.discover_points(teacher, student, images() if example is None else example)
    return [(str(pair.teacher), str(pair.student)) for pair in points]


def students_of(network, example=None):
    return [student for _, student in found(Cnn(), network, example)]


def train_one_step(teacher, student, example, **settings):
    """A distiller with points found by itself, matched and trained once; returns its points."""
    with mgd.Distiller(teacher, student, example=example, **settings) as distiller:
        mgd.update_matching(distiller, [example])
        distiller.train()
        logits, point_losses, _ = distiller(example)
        (logits.sum() + point_losses.sum()).backward()
        pairs = [point.pair for point in distiller.iter_points()]
    assert pairs
    assert all(weight.grad.isfinite().all() for weight in student.parameters())
    assert all(weight.grad is None for weight in teacher.parameters())
    return pairs


# --- the published pairs


def published(teacher, student):
    return [
        tuple(f"{path}:{'output' if path.startswith('stage') else 'input'}" for path in pair)
        for pair in known_points(teacher, student)
    ]


def test_mobilenet_v1_comes_out_as_published():
    networks = mgd.create_model("resnet50", 5), mgd.create_model("mobilenet_v1", 5)
    assert found(*networks, images((64, 64))) == published("resnet50", "mobilenet_v1")


def test_resnet50_under_resnet152_comes_out_as_published():
    networks = mgd.create_model("resnet152", 5), mgd.create_model("resnet50", 5)
    points = mgd.discover_points(*networks, images((64, 64), batch=1))
    pairs = [(str(pair.teacher), str(pair.student)) for pair in points]
    assert pairs == published("resnet152", "resnet50")
    assert [pair.norm for pair in points] == [
        f"layer{i}.{n}.bn3" for i, n in ((1, 2), (2, 7), (3, 35), (4, 2))
    ]


def test_shufflenet_differs_from_the_published_points_in_the_last_convolution_alone():
    networks = mgd.create_model("resnet50", 5), mgd.create_model("shufflenet_v2", 5)
    pairs, known = found(*networks, images((64, 64))), published("resnet50", "shufflenet_v2")
    assert pairs[:-1] == known[:-1]
    assert pairs[-1] == (known[-1][0], "conv5.2:input")


@pytest.mark.parametrize(
    ("name", "blocks"), [("mobilenet_v2", (3, 6, 13)), ("mobilenet_v2_eccv", (3, 10, 13))]
)
def test_mobilenet_v2_gives_the_last_block_of_each_resolution(name, blocks):
    networks = mgd.create_model("resnet50", 5), mgd.create_model(name, 5)
    students = [student for _, student in found(*networks, images((64, 64)))]
    assert students == [f"features.{i}.conv.1.2:input" for i in blocks] + ["features.18.2:input"]


def test_discovery_takes_less_than_two_seconds():
    networks = mgd.create_model("resnet50").eval(), mgd.create_model("mobilenet_v2").eval()
    example = images((224, 224), batch=1)

    def seconds(call):
        start = time.process_time()
        call()
        return time.process_time() - start

    forwards = min(seconds(lambda: [network(example) for network in networks]) for _ in range(3))
    discovery = min(seconds(lambda: mgd.discover_points(*networks, example)) for _ in range(3))
    # A busy machine, on which the bare forwards take long, is no fault of discovery's.
    assert discovery < max(2, 4 * forwards)


# --- kinds of networks


STAGES = [f"stages.{i}.1.2:input" for i in range(4)]


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.SiLU, nn.Hardswish, nn.GELU]
)
def test_the_last_pre_activation_of_each_resolution_is_found(activation):
    assert students_of(Cnn(activation=activation))[-3:] == STAGES[-3:]


def test_in_place_activations_are_found_and_stay_in_place():
    student = Cnn(activation=lambda: nn.ReLU(inplace=True))
    assert students_of(student)[-3:] == STAGES[-3:]
    assert all(module.inplace for module in student.modules() if isinstance(module, nn.ReLU))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda width: nn.GroupNorm(1, width)])
def test_margins_come_from_a_batch_norm_or_from_features(norm):
    points = mgd.discover_points(Cnn(norm=norm), Cnn(), images())
    expected = "stages.3.1.1" if norm is nn.BatchNorm2d else None
    assert points[-1].norm == expected


def test_functions_are_tapped_at_the_module_in_front_or_around():
    taps = students_of(FunctionalCnn())
    # A sum that no module returns is out of reach; what the block returns is next.
    assert taps == ["block1:output", "block2:output", "norm3:output"]


def test_functions_that_work_in_place_spoil_no_tap():
    student = FunctionalCnn(inplace=True)
    assert students_of(student) == ["block1:output", "block2:output", "norm3:output"]
    train_one_step(Cnn(), student, images())


def test_branches_of_a_concatenation_are_taken_together():
    student = nn.Sequential(
        Inception(3, 4), Inception(8, 5), Inception(10, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert students_of(student) == ["0:output", "1:output", "2:output"]


def test_channel_attention_is_no_distillation_point():
    stages = [nn.Sequential(conv(b, 8, 2), SqueezeExcitation(8, 4)) for b in (3, 8, 8)]
    student = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert students_of(student) == [f"{i}.0.2:input" for i in range(3)]


def test_pooling_at_the_end_of_a_stage_does_not_hide_the_stage():
    stages = [nn.Sequential(conv(b, 8), nn.MaxPool2d(2)) for b in (3, 8, 8)]
    student = nn.Sequential(nn.Sequential(*stages), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert students_of(student) == [f"0.{i}.0.2:input" for i in (1, 2)]


def test_pre_activation_networks_are_tapped_behind_the_norm_of_the_next_stage():
    student = DenseNet(4, (2, 2, 2), 8, num_classes=5)
    taps = students_of(student, images((64, 64)))
    assert taps[:2] == ["features.transition1.relu:input", "features.transition2.relu:input"]
    assert taps[2].startswith("features.norm")


def test_swin_gives_its_stages_channels_last():
    points = mgd.discover_points(Cnn(), swin(), images((64, 64)))
    assert [str(pair.student) for pair in points] == [
        f"features.{stage}.{block}:output:NHWC" for stage, block in ((1, 0), (3, 0), (5, 1))
    ]
    assert [pair.student_shape for pair in points] == [(8, 16, 16), (16, 8, 8), (32, 4, 4)]


LAYER = "encoder.layers.encoder_layer_{}:output:NLC+1"


def test_a_vit_gives_blocks_at_equal_steps_to_a_cnn_and_back():
    taps = [LAYER.format(i) for i in (1, 2, 4, 5)]
    assert [teacher for teacher, _ in found(vit(), Cnn())] == taps
    assert [student for _, student in found(Cnn(), vit())] == taps
    points = mgd.discover_points(vit(), Cnn(), images())
    assert points[0].teacher_shape == (12, 4, 4)  # the class token is no position
    assert points[0].size == (4, 4)
    assert points[0].resized == "student 16x16 -> 4x4"


def test_two_vits_share_four_points():
    pairs = found(vit(8), vit(4))
    assert pairs == [(LAYER.format(2 * i + 1), LAYER.format(i)) for i in range(4)]


@pytest.mark.parametrize(
    ("teacher", "student"), [(vit, Cnn), (Cnn, vit), (vit, vit), (swin, Cnn), (Cnn, FunctionalCnn)]
)
def test_kinds_can_teach_one_another(teacher, student):
    example = images((64, 64)) if teacher is swin else images()
    train_one_step(teacher(), student(), example)


def test_networks_without_a_common_resolution_are_paired_from_their_deep_ends():
    teacher = nn.Sequential(conv(3, 4), conv(4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    student = nn.Sequential(conv(3, 4, 2), conv(4, 4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert found(teacher, student)[-1] == ("1.2:input", "1.2:input")


def test_networks_without_maps_are_distilled_at_their_features():
    def mlp():
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 5))

    assert found(mlp(), mlp(), images((4, 4))) == [("2:input", "2:input")]


def test_a_network_without_modules_cannot_be_tapped():
    class Bare(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    with pytest.raises(mgd.TapError, match="Bare has no module that returns features"):
        mgd.discover_points(Cnn(), Bare(), images())


def test_an_example_of_the_wrong_kind_is_named():
    with pytest.raises(mgd.InputError, match=r"Cnn cannot run on .* \(1, 1, 32, 32\)"):
        mgd.discover_points(Cnn(), Cnn(), images(colours=1))


# --- mismatches


@pytest.mark.parametrize("size", [(33, 33), (37, 61), (32, 64), (50, 20)])
def test_odd_and_oblong_images(size):
    pairs = train_one_step(Cnn(), Cnn((4, 6, 8, 9)), images(size))
    assert [str(pair.student) for pair in pairs] == STAGES


def test_oblong_tokens():
    class Tokens(nn.Module):
        """A ViT-like network that takes any size."""

        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 8, 8)
            self.blocks = nn.Sequential(*(Mixer(8) for _ in range(4)))
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            tokens = self.embed(x).flatten(2).transpose(1, 2)
            return self.head(self.blocks(torch.cat([tokens[:, :1], tokens], 1))[:, 0])

    class Mixer(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))

        def forward(self, x):
            return x + self.mlp(x)

    pairs = train_one_step(Cnn(), Tokens(), images((32, 48)))
    assert {str(pair.student) for pair in pairs} == {f"blocks.{i}:output:NLC+1" for i in range(4)}
    assert pairs[0].student_shape == (8, 4, 6)


def test_grey_images():
    train_one_step(Cnn(colours=1), Cnn((2, 3, 4, 5), colours=1), images(colours=1))


def test_one_image():
    train_one_step(Cnn(), Cnn(), images(batch=1))


@pytest.mark.parametrize("reducer", mgd.REDUCERS)
@pytest.mark.parametrize("widths", [(12, 12, 12, 12), (3, 4, 5, 3)])
def test_wider_students_and_widths_that_do_not_divide(reducer, widths):
    pairs = train_one_step(Cnn(), Cnn(widths), images(), reducer=reducer)
    assert [pair.student_shape[0] for pair in pairs] == list(widths)[-len(pairs) :]


# --- start-up


def test_dead_channels_are_counted(caplog):
    student = Cnn()
    with torch.no_grad():
        student.stages[3][1][1].weight[:2] = 0
        student.stages[3][1][1].bias[:2] = 0
    with caplog.at_level(logging.WARNING), mgd.Distiller(Cnn(), student, example=images()):
        pass
    assert "student tap 'stages.3.1.2:input': 2 of 10 channels are zero" in caplog.text


class Spoilt(FunctionalCnn):
    """Adds to what a module returned, in place."""

    def forward(self, x):
        total = self.block1.norm1(self.block1.conv1(x))
        total += 1
        return self.head(self.conv3(self.block2(total)).mean((2, 3)))


def test_a_tap_that_is_overwritten_is_an_error_with_its_path():
    points = [("stages.0", "block1.norm1")]
    with pytest.raises(mgd.TapError, match=r"'block1.norm1:output' is overwritten"):
        mgd.Distiller(Cnn(), Spoilt(), points, example=images())


class Dependent(nn.Module):
    """Reads features again after an in-place activation rectified them."""

    def __init__(self):
        super().__init__()
        self.stage, self.relu = nn.Conv2d(3, 8, 3, 2, padding=1), nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stage(x)
        self.relu(x)
        return self.head(x.mean((2, 3)))


def test_a_network_that_counts_on_overwriting_is_not_changed_silently():
    student = Dependent()
    with pytest.raises(mgd.TapError, match="Dependent computes something else once"):
        mgd.Distiller(Cnn(), student, [("stages.0", "relu")], example=images())
    assert student.relu.inplace
    with mgd.Distiller(Cnn(), student, [("stages.0", "relu:output")], example=images()):
        assert student.relu.inplace


# --- the table, and plain values


def test_points_print_as_a_table():
    points = mgd.discover_points(Cnn((8, 8, 16, 20)), Cnn(), images())
    header, *rows = str(points).splitlines()
    assert " ".join(header.split()) == "teacher student channels size G margin from pooled"
    path = "stages.3.1.2:input"
    assert rows[-1].split() == f"{path} {path} 20 -> 10 2x2 2 stages.3.1.1 -".split()


def test_points_survive_yaml():
    teacher, student = vit(), Cnn()
    points = mgd.discover_points(teacher, student, images())
    saved = yaml.safe_dump(points_to_plain(points))
    read = points_from_plain(teacher, student, yaml.safe_load(saved))
    with mgd.Distiller(teacher, student, read, example=images()) as distiller:
        assert [point.pair for point in distiller.iter_points()] == points


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"teacher": "stages.9", "student": "stages.0"}, "no module 'stages.9'; nearest: stages"),
        ({"teacher": "stages.0"}, "point 1 is .* needed is a mapping with `teacher` and `student`"),
        ("stages.0", "point 1 is 'stages.0'"),
        ({"teacher": "stages.0", "student": "stages.0", "norms": "x"}, "point 1 is"),
    ],
)
def test_unusable_entries_are_named(entry, message):
    with pytest.raises(mgd.TapError, match=message):
        points_from_plain(Cnn(), Cnn(), [entry])


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        ("stages.3.1.0", "is no BatchNorm"),
        ("stages.0.0.1", "has 4 channels, but .* BatchNorm of 10"),
        ("stages.3.1.bn", "no module 'stages.3.1.bn'"),
    ],
)
def test_a_norm_that_gives_no_margins_is_an_error(norm, message):
    teacher, student = Cnn(), Cnn()
    entry = {"teacher": "stages.3.1.2", "student": "stages.3.1.2", "norm": norm}
    points = points_from_plain(teacher, student, [entry])
    with pytest.raises(mgd.TapError, match=message):
        mgd.Distiller(teacher, student, points, example=images())


# --- no trace is left


def state_of(network):
    modules = [
        (path, len(m._forward_hooks), len(m._forward_pre_hooks), m.training, vars(m).get("inplace"))
        for path, m in network.named_modules()
    ]
    weights = [(name, weight.requires_grad) for name, weight in network.named_parameters()]
    return modules, weights, list(network.state_dict())


def test_discovery_leaves_no_trace_and_is_the_same_each_time():
    teacher, student = Cnn(), Cnn(activation=lambda: nn.ReLU(inplace=True)).train()
    student.stages[0].eval()
    next(student.parameters()).requires_grad_(False)
    before, values = [state_of(n) for n in (teacher, student)], copy.deepcopy(student.state_dict())
    first = mgd.discover_points(teacher, student, images())
    assert mgd.discover_points(teacher, student, images()) == first
    assert [state_of(network) for network in (teacher, student)] == before
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, values[name], rtol=0, atol=0)
    assert all(weight.grad is None for weight in student.parameters())


def test_a_failed_probe_leaves_no_trace():
    student = Cnn(activation=lambda: nn.ReLU(inplace=True))
    before = state_of(student)
    with pytest.raises(mgd.InputError):
        mgd.discover_points(Cnn(), student, images(colours=1))
    assert state_of(student) == before


def test_closing_a_distiller_gives_the_networks_back():
    teacher, student = Cnn(), Cnn(activation=lambda: nn.ReLU(inplace=True))
    before = [state_of(network) for network in (teacher, student)]
    with mgd.Distiller(teacher, student, example=images()):
        assert list(student.state_dict()) == before[1][2]
    assert state_of(student) == before[1]
    assert state_of(teacher)[2] == before[0][2]
    assert not any(weight.requires_grad for weight in teacher.parameters())


# torch 2.6 says so of the hooks of the taps, and compiles the rest.
@pytest.mark.filterwarnings("ignore:Graph break due to unsupported builtin:UserWarning")
@pytest.mark.parametrize("is_open", [True, False])
def test_networks_can_be_copied_pickled_and_compiled(is_open):
    student, example = Cnn().eval(), images()
    expected = student(example)
    distiller = mgd.Distiller(Cnn(), student, example=example)
    if not is_open:
        distiller.close()
    for network in (
        copy.deepcopy(student),
        pickle.loads(pickle.dumps(student)),
        torch.compile(student, backend="eager"),
    ):
        torch.testing.assert_close(network(example), expected)
    buffer = io.BytesIO()
    torch.save(student.state_dict(), buffer)
    Cnn().load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
