"""Exported networks: written to a file that another program can run, and read back from it."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import torch
from torch import Tensor, nn

from mgd.errors import InputError
from mgd.models.metadata import KEY, PT2_FILE, Metadata

Format = Literal["safetensors", "pth", "pt2", "onnx"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""Files that a network can be exported to. Only the last two hold the network itself, and run
without its code."""
_RUNNABLE = (".pt2", ".onnx")


class ExportedNetwork(nn.Module):
    """A network from a `.pt2` or `.onnx` file, which can be run but not trained.

    It computes on the CPU, whatever device the images are on.

    Args:
        run: (B, C, H, W) -> (B, K), on the CPU.
        source: The file.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], source: str):
        super().__init__()
        # In a list, since torch refuses eval() to a module that comes from a file.
        self._run, self.source = [run], source

    def forward(self, images: Tensor) -> Tensor:
        """Returns the outputs (B, K) on the images' device."""
        return self._run[0](images.cpu()).to(images.device)


def is_exported(path: str | Path) -> bool:
    """Tells whether a file's suffix is that of an exported network, which needs no code to run."""
    return Path(path).suffix in _RUNNABLE


def read_exported(path: str | Path) -> tuple[nn.Module, Metadata | None]:
    """Reads a `.pt2` or `.onnx` file.

    Returns:
        The network, and what the file says of it: `None` in a file of another project.

    Raises:
        InputError: If the file is missing or damaged, or if a package is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"'{path}' does not exist; give the path of a .pt2 or .onnx file")
    run, text = _read_onnx(path) if path.suffix == ".onnx" else _read_pt2(path)
    metadata = Metadata.from_json(text, str(path)) if text else None
    return ExportedNetwork(run, str(path)), metadata


def _read_pt2(path: Path) -> tuple[Callable[[Tensor], Tensor], str]:
    extra = {PT2_FILE: ""}
    try:
        program = torch.export.load(path, extra_files=extra)
    except (RuntimeError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"'{path}' is damaged or no .pt2 file ({reason}); export it again"
        ) from error
    return program.module(), extra[PT2_FILE]


def _read_onnx(path: Path) -> tuple[Callable[[Tensor], Tensor], str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise _onnx_is_missing(error) from error
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors have no common base class
        reason = str(error).splitlines()[0]
        raise InputError(
            f"'{path}' is damaged or no .onnx file ({reason}); export it again"
        ) from error
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return run, session.get_modelmeta().custom_metadata_map.get(KEY, "")


def _onnx_is_missing(error: ImportError) -> InputError:
    return InputError(
        f"ONNX files need more packages ({error}); pip install "
        "'matching-guided-distillation[onnx]', or use the format pt2"
    )


@torch.no_grad()
def to_pt2(network: nn.Module, metadata: Metadata, file: BinaryIO) -> None:
    """Writes a `torch.export` program for any batch size, with the metadata in it.

    Args:
        network: (B, C, size, size) -> (B, K), on the CPU, in eval mode.
        metadata: Of the network.
        file: Open for writing.
    """
    # torch 2.6 proves no batch without a largest one.
    batch = {0: torch.export.Dim("batch", max=2**31)}
    program = torch.export.export(network, _example(metadata), dynamic_shapes=(batch,))
    # Some versions of torch close what they write to.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={PT2_FILE: metadata.to_json()})
    file.write(content.getbuffer())


@torch.no_grad()
def to_onnx(network: nn.Module, metadata: Metadata, file: BinaryIO) -> None:
    """Writes one ONNX file: `images` (batch, C, size, size) -> `logits` (batch, K), with metadata.

    Args:
        network: (B, C, size, size) -> (B, K), on the CPU, in eval mode.
        metadata: Of the network.
        file: Open for writing.

    Raises:
        InputError: If a package is missing.
    """
    batch = {0: torch.export.Dim("batch", max=2**31)}
    try:
        program: Any = torch.onnx.export(
            network,
            _example(metadata),
            dynamo=True,
            dynamic_shapes=(batch,),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    except ImportError as error:
        raise _onnx_is_missing(error) from error
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, metadata.to_json()
    file.write(model.SerializeToString())


def _example(metadata: Metadata) -> tuple[Tensor]:
    size = metadata.view.size
    # Two images: torch takes an axis of length 1 for one that is always 1.
    return (torch.zeros(2, metadata.view.num_channels, size, size),)
