"""Exported networks: written to a file that another program can run, and read back from it."""

import io
import logging
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import torch
from torch import Tensor, nn

from mgd.errors import InputError
from mgd.models.detector_names import is_detector
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
        num_parameters: Of the network; `None` where the file does not tell them from constants.

    Raises:
        InputError: When it is run on images of another size than it was exported for, or if it
            returns no tensor.
    """

    def __init__(
        self, run: Callable[[Tensor], Tensor], source: str, num_parameters: int | None = None
    ):
        super().__init__()
        self.num_parameters = num_parameters
        # In a list, since torch refuses eval() to a module that comes from a file.
        self._run, self.source = [run], source

    def forward(self, images: Tensor) -> Tensor:
        """Returns the outputs (B, K) on the images' device."""
        try:
            output = self._run[0](images.cpu())
        except Exception as error:  # onnxruntime's own errors have no common base class
            raise InputError(
                f"'{self.source}' cannot run on images of {tuple(images.shape[1:])} "
                f"({reason_of(error)}); give the `size` that it was exported for"
            ) from error
        if not isinstance(output, Tensor):
            raise InputError(
                f"'{self.source}' returns a {type(output).__name__}; needed is a tensor of class "
                "scores: export a network that returns it"
            )
        return output.to(images.device)


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
    run: Callable[[Tensor], Tensor]
    number: int | None = None
    if path.suffix == ".onnx":
        run, text = _read_onnx(path)
    else:
        run, text = _read_pt2(path)
        number = sum(parameter.numel() for parameter in run.parameters())
    metadata = Metadata.from_json(text, str(path)) if text else None
    if metadata is not None and is_detector(metadata.arch):
        raise InputError(
            f"'{path}' is an exported detector, which takes one image and returns boxes; run it "
            "with ONNX Runtime, or give the run folder or weights that it was written from"
        )
    return ExportedNetwork(run, str(path), number), metadata


def _read_pt2(path: Path) -> tuple[nn.Module, str]:
    extra = {PT2_FILE: ""}
    try:
        with _without_its_tracebacks():
            run = torch.export.load(path, extra_files=extra).module()
    except Exception as error:  # a damaged archive can end in nearly anything
        raise InputError(
            f"'{path}' is damaged or no .pt2 file ({reason_of(error)}); export it again"
        ) from error
    return run, extra[PT2_FILE]


@contextmanager
def _without_its_tracebacks() -> Iterator[None]:
    """Keeps torch from logging a traceback of a file that it cannot read; the error says it."""
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _read_onnx(path: Path) -> tuple[Callable[[Tensor], Tensor], str]:
    session = onnx_session(path)
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return run, session.get_modelmeta().custom_metadata_map.get(KEY, "")


def onnx_session(path: Path) -> Any:
    """Returns a session of ONNX Runtime on the CPU, with as many threads as torch has.

    Args:
        path: An ONNX file.

    Raises:
        InputError: If the file is damaged, or the package is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise onnx_is_missing(error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # as many as other networks have
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors have no common base class
        raise InputError(
            f"'{path}' is damaged or no .onnx file ({reason_of(error)}); export it again"
        ) from error


def reason_of(error: Exception) -> str:
    """Returns an error's text as one line that is not too long; its kind where it has none."""
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" …")


def onnx_is_missing(error: ImportError) -> InputError:
    """Returns the error that tells which package ONNX files need."""
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
    program = torch.export.export(network, _example(metadata), dynamic_shapes=_any_batch())
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
    try:
        program: Any = torch.onnx.export(
            network,
            _example(metadata),
            dynamo=True,
            dynamic_shapes=_any_batch(),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    except ImportError as error:
        raise onnx_is_missing(error) from error
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, metadata.to_json()
    file.write(model.SerializeToString())


def _any_batch() -> tuple[dict[int, Any]]:
    # torch 2.6 proves no batch without a largest one.
    return ({0: torch.export.Dim("batch", max=2**31)},)


def _example(metadata: Metadata) -> tuple[Tensor]:
    size = metadata.view.size
    # Two images: torch takes an axis of length 1 for one that is always 1.
    return (torch.zeros(2, metadata.view.num_channels, size, size),)
