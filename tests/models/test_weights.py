"""Weight files of this and other projects; nothing in one is executed."""

import argparse
import io
import logging
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from mgd.errors import InputError
from mgd.models import create_model, load_network
from mgd.models.weights import load_backbone, load_weights, num_classes_of, read_weights


def net(classes=5):
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4), head=nn.Linear(4, classes))
    )


STATE = net().state_dict()
MODULE = {f"module.{key}": value for key, value in STATE.items()}
COMPILED = {f"_orig_mod.{key}": value for key, value in MODULE.items()}
INSIDE = {f"module._orig_mod.{key}": value for key, value in STATE.items()}
TIMM = {
    "epoch": 3,
    "arch": "resnet18",
    "state_dict": STATE,
    "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    "args": argparse.Namespace(lr=0.1, model="resnet18", amp=False),
    "metric": 71.3,
}
OURS = {"format": 1, "student": STATE, "distiller": {"points.0.margin": torch.zeros(3)}, "rng": {}}


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize(
    "content",
    [STATE, MODULE, COMPILED, INSIDE, {"state_dict": MODULE}, {"model": STATE}, TIMM, OURS],
    ids=["bare", "module", "compiled", "compiled inside", "state_dict", "model", "timm", "ours"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_known_form_gives_the_same_weights(content, zipped, tmp_path):
    path = saved(tmp_path / "net.pth.tar", content, _use_new_zipfile_serialization=zipped)
    weights = read_weights(path)
    assert list(weights) == list(STATE)
    assert all(torch.equal(weights[key], STATE[key]) for key in STATE)


def test_safetensors_give_the_same_weights(tmp_path):
    save_file(dict(MODULE), tmp_path / "net.safetensors")
    weights = read_weights(str(tmp_path / "net.safetensors"))
    assert weights.keys() == STATE.keys()
    assert all(torch.equal(weights[key], STATE[key]) for key in STATE)


def test_a_module_that_is_called_module_keeps_its_name(tmp_path):
    names = {"module.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert read_weights(saved(tmp_path / "net.pt", names)).keys() == names.keys()


class Malicious:
    """Would touch a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["zipped", "legacy", "plain pickle"])
def test_a_malicious_pickle_is_refused_and_not_executed(how, tmp_path):
    touched, path = tmp_path / "touched", tmp_path / "net.pth"
    content = {"state_dict": STATE, "args": Malicious(touched)}
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zipped")
    with pytest.raises(InputError, match=r"not loaded for safety|damaged or no checkpoint"):
        read_weights(path)
    assert not touched.exists()
    torch.load(path, weights_only=False) if how != "plain pickle" else pickle.loads(
        path.read_bytes()
    )
    assert touched.exists()  # so the file was a real trap


def whole_file(kind):
    buffer = io.BytesIO()
    if kind == "safetensors":
        return save(dict(STATE))
    torch.save(STATE, buffer, _use_new_zipfile_serialization=kind == "zipped")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zipped", "legacy", "safetensors"])
def test_a_truncated_file_is_told_wherever_it_ends(kind, tmp_path):
    path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pt")
    whole = whole_file(kind)
    for length in range(0, len(whole), max(1, len(whole) // 80)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"net\..* is (damaged|no whole safetensors)"):
            read_weights(path)
    path.write_bytes(whole)
    assert read_weights(path).keys() == STATE.keys()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", pickle.dumps({"accuracy": 1})])
def test_what_is_no_checkpoint_is_told(content, tmp_path):
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"net\.pt' (is damaged|holds no weights)"):
        read_weights(tmp_path / "net.pt")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], torch.ones(3), {"state_dict": {}}, {}])
def test_a_file_without_weights_is_told_what_is_needed(content, tmp_path):
    with pytest.raises(InputError, match="holds no weights; needed is a state dict"):
        read_weights(saved(tmp_path / "net.pt", content))


@pytest.mark.parametrize("name", ["gone.pt", "gone.safetensors"])
def test_a_missing_file_is_told(name, tmp_path):
    with pytest.raises(InputError, match="do not exist; give the path of a checkpoint file"):
        read_weights(tmp_path / name)


def test_weights_arrive_on_the_cpu_whatever_they_are_loaded_into():
    network = net()
    load_weights(network, STATE, "net.pt")
    assert all(torch.equal(value, STATE[key]) for key, value in network.state_dict().items())


def test_every_kind_of_misfit_is_listed():
    weights = {key: value for key, value in STATE.items() if key != "conv.bias"}
    weights["extra.weight"] = torch.ones(1)
    weights["head.bias"] = torch.ones(9)
    with pytest.raises(InputError) as caught:
        load_weights(net(), weights, "net.pt")
    message = str(caught.value)
    for part in (
        "'net.pt' does not fit Sequential",
        "1 missing in the file: conv.bias",
        "1 unknown to the network: extra.weight",
        "1 of another shape: head.bias (9,) for (5,)",
        "name the network that the file belongs to",
    ):
        assert part in message


def test_a_long_list_of_misfits_is_cut_and_counted():
    with pytest.raises(InputError, match=r"8 missing in the file: (\S+, ){4}…"):
        load_weights(net(), {"x": torch.ones(1)}, "net.pt")


def test_a_misfit_leaves_the_network_as_it_was():
    network = net()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError):
        load_weights(network, {**STATE, "head.bias": torch.ones(9)}, "net.pt")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_files_older_than_num_batches_tracked_load():
    old = {key: value for key, value in STATE.items() if "num_batches" not in key}
    network = net()
    load_weights(network, old, "net.pt")
    assert torch.equal(network.conv.weight, STATE["conv.weight"])


@pytest.mark.parametrize("classes", [1, 5, 200])
def test_the_class_count_is_read_from_the_file(classes):
    assert num_classes_of(net(classes).state_dict(), net(2), 2) == classes


def test_a_file_of_another_network_has_no_class_count():
    """Then loading it tells what does not fit."""
    other = {"conv.weight": torch.ones(9, 3, 1, 1), "head.weight": torch.ones(7, 4)}
    assert num_classes_of(other, net(5), 5) == 5


def test_sorted_names_do_not_mislead(tmp_path):
    """The safetensors format sorts: `fc` comes before the layers."""
    path = str(tmp_path / "weights.safetensors")
    save_file(create_model("resnet18", num_classes=7).state_dict(), path)
    assert load_network(path, "resnet18")[0].fc.out_features == 7


def test_a_backbone_keeps_a_new_head_of_another_size_and_says_so(caplog):
    network = net(classes=7)
    head = network.head.weight.clone()
    with caplog.at_level(logging.WARNING):
        load_backbone(network, STATE, "published")
    assert torch.equal(network.conv.weight, STATE["conv.weight"])
    assert torch.equal(network.head.weight, head)
    assert (
        "published: its class count is another, so its head is made anew (head.weight, head.bias)"
        in caplog.text
    )


def test_a_backbone_of_the_same_size_brings_its_head_silently(caplog):
    network = net()
    load_backbone(network, STATE, "published")
    assert torch.equal(network.head.weight, STATE["head.weight"])
    assert not caplog.records
