"""What somebody without this package does with exported files.

`python elsewhere.py FOLDER FILE...` prints as JSON the answers of each file's network to the
images in FOLDER, by path. All that is not in the file comes from torch, torchvision, Pillow,
safetensors or onnxruntime; `mgd` cannot be imported.
"""

import json
import math
import sys
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as images_


class NoMgd:
    """Refuses to import the package."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mgd":
            raise ImportError("mgd is not installed here")


def read_safetensors(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["mgd"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return network_of(metadata, weights), metadata


def read_pth(path):
    metadata = json.loads(path.with_suffix(".json").read_text())
    return network_of(metadata, torch.load(path, weights_only=True)), metadata


def read_pt2(path):
    extra = {"mgd.json": ""}
    program = torch.export.load(path, extra_files=extra)
    return program.module(), json.loads(extra["mgd.json"])


def read_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["mgd"])
    return lambda x: torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0]), metadata


def network_of(metadata, weights):
    library, _, name = metadata["arch"].partition(":")
    assert library == "torchvision"
    network = torchvision.models.get_model(name, num_classes=len(metadata["classes"]))
    network.load_state_dict(weights)
    return network.eval()


def seen(path, view):
    """Does with an image what the file says of it."""
    image = images_.pil_to_tensor(Image.open(path).convert("RGB"))
    mode = InterpolationMode(view["interpolation"])
    side = math.floor(view["size"] / view["crop_pct"] + 1e-6)
    size = {"center": [side], "squash": [side, side]}[view["crop"]]
    image = images_.center_crop(images_.resize(image, size, mode), [view["size"]] * 2)
    assert view["colour"] == "RGB"
    return images_.normalize(image.float() / 255, view["mean"], view["std"])


READ = {".safetensors": read_safetensors, ".pth": read_pth, ".pt2": read_pt2, ".onnx": read_onnx}


@torch.no_grad()
def answers_of(folder, file):
    """Returns the name of the likeliest class of each image."""
    network, metadata = READ[file.suffix](file)
    paths = sorted(folder.rglob("*.png"))
    batch = torch.stack([seen(path, metadata["view"]) for path in paths])
    places = network(batch).argmax(1).tolist()
    names = [metadata["classes"][place] for place in places]
    return dict(zip(map(str, paths), names, strict=True))


if __name__ == "__main__":
    sys.meta_path.insert(0, NoMgd())
    folder, *files = map(Path, sys.argv[1:])
    found = {str(file): answers_of(folder, file) for file in files}
    assert not any(name.partition(".")[0] == "mgd" for name in sys.modules)
    print(json.dumps(found))
