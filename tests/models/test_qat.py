"""Rounding in training: the values of int8, the gradients of none, and nothing else changes."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mgd
from mgd.models.qat import RoundedConv2d, round_in_training, round_values, round_weight

VALUES = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))


def by_hand(values, low, high, steps, lowest):
    """Rounds numbers one by one: `scale (q - zero)`, for the whole number q that is nearest."""
    scale = np.float32(max((high - low) / steps, np.finfo(np.float32).eps))
    zero = int(np.rint(lowest - low / scale))
    whole = [min(max(int(np.rint(value / scale)) + zero, lowest), 127) for value in values]
    return np.array([(number - zero) * scale for number in whole], dtype=np.float32)


@pytest.mark.parametrize("values", [VALUES, VALUES.abs(), -VALUES.abs(), 100 * VALUES, 0 * VALUES])
def test_activations_equal_the_reference(values):
    flat = values.flatten().double().numpy()
    expected = by_hand(flat, min(flat.min(), 0), max(flat.max(), 0), 255, -128)
    step = (flat.max() - flat.min()) / 255
    found = round_values(values).flatten().numpy()
    # A value in the middle between two whole numbers may go either way.
    assert (np.abs(found - expected) > step / 100).mean() < 0.01
    np.testing.assert_allclose(found, flat, atol=0.51 * step + 1e-6)


def test_weights_equal_the_reference_with_a_scale_for_each_output_channel():
    weight = VALUES * torch.tensor([1.0, 10.0, 0.0])[:, None, None, None]
    for channel, found in zip(weight, round_weight(weight), strict=True):
        most = float(channel.abs().max())
        expected = by_hand(channel.flatten().double().numpy(), -most, most, 254, -127)
        np.testing.assert_allclose(found.flatten().numpy(), expected, atol=most / 127 / 100)


def test_rounding_twice_is_rounding_once():
    weight = round_weight(VALUES)
    torch.testing.assert_close(round_weight(weight), weight)


def test_zero_stays_zero_so_that_padding_does():
    assert round_values(torch.tensor([-1.3, 0.0, 2.9]))[1] == 0


def test_gradients_pass_as_if_nothing_was_rounded():
    values = VALUES.clone().requires_grad_()
    weight = VALUES.clone().requires_grad_()
    (round_values(values).sum() + round_weight(weight).sum()).backward()
    torch.testing.assert_close(values.grad, torch.ones_like(values))
    torch.testing.assert_close(weight.grad, torch.ones_like(weight))


def test_half_precision_stays_half():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert round_values(VALUES.bfloat16()).dtype == torch.bfloat16
        assert round_weight(VALUES).dtype == torch.float32


def network(seed=0):
    torch.manual_seed(seed)
    return mgd.create_model("cifar_resnet8", 5)


def test_a_layer_computes_with_rounded_input_and_weight():
    layer = nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect")
    rounded = copy.deepcopy(layer)
    assert round_in_training(rounded) == 1
    assert type(rounded) is RoundedConv2d
    padded = F.pad(round_values(VALUES), (1, 1, 1, 1), mode="reflect")
    expected = F.conv2d(padded, round_weight(layer.weight), layer.bias)
    torch.testing.assert_close(rounded(VALUES), expected)
    assert torch.equal(rounded.eval()(VALUES), layer(VALUES))


def test_in_eval_mode_under_the_same_names_the_network_is_the_same():
    plain, rounded = network(), network()
    assert round_in_training(rounded) == 8
    assert [*rounded.state_dict()] == [*plain.state_dict()]
    assert [path for path, _ in rounded.named_modules()] == [p for p, _ in plain.named_modules()]
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(rounded.eval()(images), plain.eval()(images))
    assert not torch.equal(rounded.train()(images), plain.train()(images))


def test_layers_of_other_classes_stay():
    class Mine(nn.Linear):
        pass

    assert round_in_training(nn.Sequential(Mine(2, 2), nn.Conv1d(2, 2, 1), nn.ReLU())) == 0


def test_the_weights_of_an_int8_file_are_those_of_training(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from onnx.numpy_helper import to_array

    from mgd.models import Metadata, quantise_onnx, to_onnx

    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, bias=False)
    whole = nn.Sequential(layer, nn.Flatten()).eval()
    metadata = Metadata(arch="mine", classes=("a",), view=mgd.View(size=8))
    with (tmp_path / "net.onnx").open("wb") as file:
        to_onnx(whole, metadata, file)
    images = [torch.randn(4, 3, 8, 8)]
    quantise_onnx(tmp_path / "net.onnx", images, tmp_path / "int8.onnx")
    values = {
        each.name: to_array(each) for each in onnx.load(tmp_path / "int8.onnx").graph.initializer
    }
    [name] = [name for name, value in values.items() if value.shape == layer.weight.shape]
    [scale] = [
        value for key, value in values.items() if key.endswith("scale") and value.shape == (4,)
    ]
    found = values[name].astype(np.float32) * scale[:, None, None, None]
    torch.testing.assert_close(torch.tensor(found), round_weight(layer.weight.detach()))
