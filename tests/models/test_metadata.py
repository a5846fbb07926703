"""What belongs to a network's weights is kept with them, in every format, and read back."""

import json

import pytest
import torch
from safetensors.torch import save_file

import mgd
from mgd.engine.loop.checkpoint import save_weights
from mgd.errors import InputError
from mgd.models import read_metadata, to_onnx, to_pt2
from mgd.models.weights import read_checkpoint

VIEW = mgd.View(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), size=16, crop="squash", crop_pct=1.0)
CLASSES = ("cat", "dog", "Übergrößenträger", 'a,b\n"c"')
METADATA = mgd.Metadata(arch="cifar_resnet8_x0_25", classes=CLASSES, view=VIEW)
IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def network():
    return mgd.create_model(METADATA.arch, len(CLASSES)).eval()


def write_safetensors(network, path):
    save_weights(network, path, METADATA)


def write_checkpoint(network, path):
    torch.save({"student": network.state_dict(), "mgd": METADATA.to_plain()}, path)


def write_pth(network, path):
    torch.save(network.state_dict(), path)
    path.with_suffix(".json").write_text(METADATA.to_json())


def write_pt2(network, path):
    with path.open("wb") as file:
        to_pt2(network, METADATA, file)


def write_onnx(network, path):
    with path.open("wb") as file:
        to_onnx(network, METADATA, file)


WRITERS = {
    ".safetensors": write_safetensors,
    ".ckpt": write_checkpoint,
    ".pth": write_pth,
    ".pt2": write_pt2,
    ".onnx": write_onnx,
}


@pytest.mark.parametrize("suffix", WRITERS)
@torch.no_grad()
def test_a_file_of_every_format_tells_its_network_classes_and_view(suffix, network, tmp_path):
    path = tmp_path / f"net{suffix}"
    WRITERS[suffix](network, path)
    loaded, metadata = mgd.load_network(path)
    assert metadata == METADATA == read_metadata(path)
    assert not loaded.training
    torch.testing.assert_close(loaded(IMAGES), network(IMAGES), atol=1e-5, rtol=1e-5)


def test_onnx_is_one_file_with_named_inputs_and_outputs_and_any_batch(network, tmp_path):
    import onnxruntime

    write_onnx(network, tmp_path / "net.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    assert [each.name for each in session.get_inputs()] == ["images"]
    assert [each.name for each in session.get_outputs()] == ["logits"]
    for batch in (1, 5):
        (logits,) = session.run(None, {"images": torch.zeros(batch, 3, 16, 16).numpy()})
        assert logits.shape == (batch, len(CLASSES))


def test_a_file_of_another_project_says_nothing(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    assert read_metadata(tmp_path / "net.safetensors") is None
    with pytest.raises(InputError, match="does not say which network it is of; name it with"):
        mgd.load_network(tmp_path / "net.safetensors")
    loaded, metadata = mgd.load_network(tmp_path / "net.safetensors", METADATA.arch)
    assert metadata is None
    assert loaded(IMAGES).shape == (3, 4)


def test_a_file_does_not_say_what_code_to_run(tmp_path):
    metadata = mgd.Metadata(arch="os:system", classes=("a", "b"), view=VIEW)
    network = torch.nn.Linear(2, 2)
    save_weights(network, tmp_path / "net.safetensors", metadata)
    with pytest.raises(InputError, match="is of 'os:system', which is code; name it with `arch`"):
        mgd.load_network(tmp_path / "net.safetensors")


def test_a_json_file_of_another_project_beside_is_left_alone(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "net.pth")
    (tmp_path / "net.json").write_text(json.dumps({"hidden_size": 3}))
    assert read_checkpoint(tmp_path / "net.pth")[1] is None


FORGED = {
    "no mapping": [1, 2],
    "no 'view'": {"arch": "a", "classes": []},
    "'arch' is no text": {"arch": 3, "classes": [], "view": {}},
    "'classes' is no list of names": {"arch": "a", "classes": "ab", "view": {}},
    "has a name twice": {"arch": "a", "classes": ["x", "x"], "view": {}},
    "'view' is no mapping": {"arch": "a", "classes": [], "view": 3},
}


@pytest.mark.parametrize("fault", FORGED)
def test_forged_metadata_are_one_line_that_names_the_file(fault):
    with pytest.raises(InputError, match=rf"'x\.pth'.*{fault}"):
        mgd.Metadata.from_plain(FORGED[fault], "x.pth")


def test_a_view_in_a_file_is_checked():
    plain = METADATA.to_plain()
    plain["view"]["crop_pct"] = 7
    with pytest.raises(InputError, match=r"'x\.pth': .*unusable: `crop_pct` \(=7\) must be"):
        mgd.Metadata.from_plain(plain, "x.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_was_exported_without_class_names_is_loaded(suffix, network, tmp_path):
    """As `mgd export` makes it of another project's weights."""
    nameless = mgd.Metadata(arch=METADATA.arch, classes=(), view=VIEW)
    path = tmp_path / f"net{suffix}"
    WRITERS[suffix](network, path)
    save_weights(network, path, nameless) if suffix == ".safetensors" else None
    path.with_suffix(".json").write_text(nameless.to_json())
    loaded, metadata = mgd.load_network(path)
    assert metadata == nameless
    assert loaded(IMAGES).shape == (3, 4)


def test_another_number_of_names_than_outputs_is_one_line(network, tmp_path):
    forged = mgd.Metadata(arch=METADATA.arch, classes=("a", "b"), view=VIEW)
    save_weights(network, tmp_path / "net.safetensors", forged)
    with pytest.raises(InputError, match=r"names 2 classes, but its weights have 4 outputs; use"):
        mgd.load_network(tmp_path / "net.safetensors")


@pytest.mark.parametrize("text", ["", "{", "null", "[" * 100_000])
def test_text_that_is_no_json_is_one_line(text):
    with pytest.raises(InputError, match="no mapping in JSON"):
        mgd.Metadata.from_json(text)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"not a network"])
def test_a_damaged_file_is_one_line(suffix, content, tmp_path):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"net\."):
        mgd.load_network(path, METADATA.arch)


def test_a_folder_and_a_missing_file_say_what_they_are(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        mgd.load_network(tmp_path, METADATA.arch)
    for name in ("net.pt2", "net.pth"):
        with pytest.raises(InputError, match="not exist"):
            mgd.load_network(tmp_path / name, METADATA.arch)
