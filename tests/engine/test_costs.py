"""What networks cost: counted exactly, and timed in turns."""

import itertools

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import mgd
from mgd.engine import compare
from mgd.engine.compare import (
    Candidate,
    build_candidate,
    file_bytes,
    load_candidate,
    measure_costs,
    multiply_adds,
    time_side_by_side,
)
from mgd.engine.loop.checkpoint import save_weights
from mgd.engine.tasks.classifier import Classifier
from mgd.errors import InputError
from mgd.models import to_onnx, to_pt2


def candidate(network, size=8, classes=3, name="net", file=None):
    view = mgd.View(size=size)
    return Candidate(Classifier(name, network.eval(), view, "", ""), classes, file)


class Clock:
    """A clock that stands still but for the work of the steps that it makes."""

    def __init__(self):
        self.now, self.done = 0.0, []

    def __call__(self):
        return self.now

    def step(self, name, seconds):
        times = itertools.cycle(seconds)

        def work():
            self.done.append(name)
            self.now += next(times)

        return work


def test_the_seconds_of_a_step_are_its_own():
    clock = Clock()
    steps = [clock.step("fast", [1.0]), clock.step("slow", [3.0])]
    assert time_side_by_side(steps, 4, clock) == [[1.0] * 4, [3.0] * 4]


def test_steps_take_turns_in_alternating_order_each_with_a_run_before_the_clock():
    clock = Clock()
    steps = [clock.step("a", [1.0]), clock.step("b", [1.0])]
    time_side_by_side(steps, 2, clock)
    before, rounds = clock.done[:4], clock.done[4:]
    assert before == ["a", "b", "a", "b"]
    assert rounds == ["a", "a", "b", "b", "b", "b", "a", "a"]


def test_a_short_step_runs_until_the_clock_can_tell():
    clock = Clock()
    time_side_by_side([clock.step("a", [0.001])], 1, clock)
    assert len(clock.done) == 2 + 1 + round(compare.LEAST_SECONDS / 0.001)


def test_median_and_quartiles_are_over_the_rounds(monkeypatch):
    seconds = [5.0, 1.0, 2.0, 4.0, 3.0]
    monkeypatch.setattr(
        compare, "time_side_by_side", lambda steps, *rest: [list(seconds) for _ in steps]
    )
    (cost,) = measure_costs([candidate(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))])
    for found, batch in zip(cost.latencies, compare.BATCHES, strict=True):
        assert (found.batch, found.median, found.low, found.high) == (batch, 3e3, 2e3, 4e3)


def test_networks_of_a_kind_are_timed_once_and_others_apart(monkeypatch):
    def linear():
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))

    steps = []
    monkeypatch.setattr(
        compare, "time_side_by_side", lambda found, *rest: steps.extend(found) or [[1.0]] * 4
    )
    costs = measure_costs([candidate(linear()), candidate(linear()), candidate(linear(), name="b")])
    assert len(steps) == 2 * len(compare.BATCHES)
    assert len(costs) == 3


def test_images_have_the_size_of_each_network_and_the_batch_asked_for():
    seen = []

    class Watched(nn.Flatten):
        def forward(self, images):
            seen.append(tuple(images.shape))
            return super().forward(images)

    networks = [candidate(Watched(), size=size, name=str(size)) for size in (8, 16)]
    measure_costs(networks, rounds=1)
    expected = {(batch, 3, size, size) for batch in compare.BATCHES for size in (8, 16)}
    assert set(seen) == expected


def test_multiply_adds_are_those_of_the_formulas():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),  # 8 * 3 * 9 at 64 places
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),  # 8 * 9 at 64 places
        nn.Flatten(),
        nn.Linear(512, 3),
    )
    assert multiply_adds(candidate(network)) == 64 * 8 * 27 + 64 * 8 * 9 + 512 * 3


def test_attention_is_counted_whatever_kernel_would_compute_it():
    """torchvision publishes 17.56 G for ViT-B/16; the CPU's own kernels hide a third of it."""
    is_fast = torch.backends.mha.get_fastpath_enabled()
    found = multiply_adds(build_candidate("torchvision:vit_b_16"))
    assert found / 1e9 == pytest.approx(17.56, abs=0.01)
    assert torch.backends.mha.get_fastpath_enabled() is is_fast


@pytest.mark.parametrize(("name", "published"), [("resnet50", 4.09), ("mobilenet_v2", 0.30)])
def test_multiply_adds_are_those_that_torchvision_publishes(name, published):
    assert multiply_adds(build_candidate(name)) / 1e9 == pytest.approx(published, abs=0.005)


def test_a_network_by_name_has_the_classes_asked_for_or_those_of_its_weights():
    assert build_candidate("cifar_resnet8").classes == 1000
    assert build_candidate("cifar_resnet8", 7).classes == 7
    assert build_candidate("resnet18").classifier.view.size == 224


def test_the_file_of_a_network_by_name_is_as_large_as_one_written(tmp_path):
    found = build_candidate("cifar_resnet8", 10)
    save_file(found.classifier.network.state_dict(), tmp_path / "net.safetensors")
    assert file_bytes(found) == (tmp_path / "net.safetensors").stat().st_size


@pytest.mark.filterwarnings("ignore")
def test_exported_networks_cost_what_their_weights_do(tmp_path):
    pytest.importorskip("onnxruntime")
    network = mgd.create_model("cifar_resnet8", num_classes=3).eval()
    metadata = mgd.Metadata(arch="cifar_resnet8", classes=("a", "b", "c"), view=mgd.View(size=16))
    path = tmp_path / "net.safetensors"
    save_weights(network, path, metadata)
    found = {"safetensors": load_candidate(path)}
    for kind, write in (("pt2", to_pt2), ("onnx", to_onnx)):
        with (tmp_path / f"net.{kind}").open("wb") as file:
            write(network, metadata, file)
        found[kind] = load_candidate(tmp_path / f"net.{kind}")
    parameters = sum(each.numel() for each in network.parameters())
    assert [each.classifier.num_parameters for each in found.values()] == [
        parameters,
        parameters,
        None,
    ]
    operations = multiply_adds(found["safetensors"])
    assert operations > 1_000_000
    assert [multiply_adds(each) for each in found.values()] == [operations, operations, None]
    for kind, each in found.items():
        assert file_bytes(each) == (tmp_path / f"net.{kind}").stat().st_size
        assert each.classes == 3
    costs = measure_costs(list(found.values()), rounds=1)
    assert [cost.size for cost in costs] == [16] * 3
    with pytest.raises(InputError, match="computes on the CPU"):
        measure_costs([found["pt2"]], rounds=1, device="cuda")


def test_a_file_that_names_its_network_is_never_taken_for_another(tmp_path):
    metadata = mgd.Metadata(arch="cifar_resnet8", classes=("a", "b"), view=mgd.View(size=16))
    save_weights(
        mgd.create_model("cifar_resnet8", num_classes=2), tmp_path / "net.safetensors", metadata
    )
    assert load_candidate(tmp_path / "net.safetensors", "resnet18").classifier.name == (
        "cifar_resnet8"
    )


def test_a_network_that_cannot_run_on_its_view_is_one_line(monkeypatch):
    monkeypatch.setattr(compare, "own_view", lambda *_: (mgd.View(size=8), ""))
    with pytest.raises(InputError, match="alexnet cannot run on images of 8 x 8 px"):
        build_candidate("torchvision:alexnet")
