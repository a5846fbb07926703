"""Discovery: the points of any two networks."""

import pytest
import torch
from inside_networks import (
    Cnn,
    FunctionalCnn,
    Inception,
    conv,
    found,
    images,
    students_of,
    swin,
    train_one_step,
    vit,
)
from torch import nn
from torchvision.models import DenseNet
from torchvision.ops import SqueezeExcitation

import mgd
from counting import operations
from mgd.models.pairs import known_points

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


def test_discovery_runs_each_network_once_on_one_image():
    networks, shapes = [Cnn(), Cnn()], []
    for network in networks:
        network.register_forward_pre_hook(lambda module, args: shapes.append(args[0].shape))
    mgd.discover_points(*networks, images(batch=4))
    assert shapes == [(1, 3, 32, 32)] * 2


def test_discovery_costs_in_proportion_to_the_layers():
    """56 layers are 2.8 times 20; a search of every layer for every layer would cost 7.8 times."""

    def cost(name):
        networks = [mgd.create_model(name, 10).eval() for _ in range(2)]
        return operations(lambda: mgd.discover_points(*networks, torch.zeros(1, 3, 8, 8)))

    assert cost("cifar_resnet56") < 4 * cost("cifar_resnet20")


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


class TupleBlock(nn.Module):
    """A transformer's block, without attention, that returns its sum in a tuple."""

    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))

    def forward(self, x):
        return x + self.mlp(x), None


class TupleTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 8, 8)
        self.blocks = nn.ModuleList(TupleBlock(8) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x, _ = block(x)
        return self.head(self.norm(x).mean(1))


def test_sums_that_blocks_return_in_tuples_are_read_at_the_next_module():
    taps = students_of(TupleTransformer())
    assert taps == ["blocks.1:input:NLC", "blocks.2:input:NLC", "norm:input:NLC"]


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
