"""Devices that were asked for: they are there, or one line says what is."""

import pytest
import torch

from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.devices import build_fabric
from mgd.errors import InputError


@pytest.mark.parametrize(
    ("visible", "asked", "reason"),
    [
        (
            0,
            {"gpu": 0},
            r"`gpu` \(=0\) is not there: PyTorch sees no CUDA GPU; leave",
        ),
        (0, {"gpu": 3}, r"`gpu` \(=3\) is not there: PyTorch sees no CUDA GPU"),
        (1, {"gpu": 1}, r"`gpu` \(=1\) is not there: PyTorch sees 1, .* from 0 to 0"),
        (
            2,
            {"devices": 4},
            r"`devices` \(=4\) is too high: PyTorch sees 2 .*; give at most 2",
        ),
    ],
)
def test_gpus_that_are_not_there_are_an_error(monkeypatch, visible, asked, reason):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    with pytest.raises(InputError, match=reason):
        build_fabric(RunConfig().replace(**asked).devices)


def test_without_gpus_devices_are_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert build_fabric(RunConfig().replace(devices=2).devices).world_size == 2


@pytest.mark.parametrize(("visible", "options"), [(0, {}), (1, {}), (2, {"gpu": 1})])
def test_a_teacher_is_not_shared_out_to_one_process(monkeypatch, visible, options):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    config = RunConfig().replace(distiller="kd", teacher="resnet18", parallel="fsdp", **options)
    with pytest.raises(InputError, match="shares the teacher out over several processes, and here"):
        build_fabric(config.devices)


def test_a_network_is_given_what_it_is_called_with_in_half_precision():
    """Fabric would round coordinates and images; autocast rounds where a layer computes."""
    seen = []

    class Listens(torch.nn.Linear):
        def forward(self, image, targets):
            seen.append((image, targets[0]["boxes"]))
            return super().forward(image)

    fabric = build_fabric(RunConfig().replace(precision="bf16", devices=1).devices)
    image, boxes = torch.tensor([[0.1, 0.7]]), torch.tensor([[1.25, 3.0, 171.4, 191.6]])
    network = fabric.setup_module(Listens(2, 2), move_to_device=False)
    output = network(image, [{"boxes": boxes}])
    assert all(map(torch.equal, seen[0], (image, boxes)))
    assert torch.equal(output, output.bfloat16().float())  # the layer has rounded
