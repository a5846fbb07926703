"""The lines that tell how an exported file compares with the network in PyTorch."""

from collections.abc import Iterator, Sequence

from mgd.cli.compare_table import milliseconds, scaled
from mgd.cli.lines import decimals, printable
from mgd.engine.detection.proof import BoxProof
from mgd.engine.export import Measured, Proof


def proof_lines(proof: Proof) -> Iterator[str]:
    """Yields a table of the networks, and how far their answers agree.

    Args:
        proof: Of a file that is kept.
    """
    labelled = "" if proof.labelled == proof.images else f", {proof.labelled} of them with a label"
    yield f"proven on {proof.images} images of {printable(proof.source)}{labelled}"
    right = [_percent(each, proof.labelled) for each in proof.right]
    yield from _table(proof.networks, "Acc@1, %", right)
    yield f"same answer as in PyTorch: {proof.agreeing} of {proof.images} images"
    yield (
        f"largest difference of the logits: {proof.difference:.2g}, or {proof.relative:.2g} of the "
        "largest"
    )


def box_proof_lines(proof: BoxProof) -> Iterator[str]:
    """Yields a table of the detectors, and how far their boxes agree.

    Args:
        proof: Of a file that is kept.
    """
    yield (
        f"proven on {proof.images} images of {printable(proof.source)}, the first also turned and "
        "at half its size"
    )
    yield from _table(proof.networks)
    if not proof.boxes:
        yield "no box was found, in PyTorch and by the file, so that no box was compared"
        return
    yield f"same boxes as in PyTorch: {proof.same} of {proof.boxes}"
    yield (
        f"largest difference of these: {proof.difference:.2g}, of a score, or of a corner as a "
        "share of the longer side"
    )


def _table(
    networks: Sequence[Measured], column: str = "", values: Sequence[str] = ()
) -> Iterator[str]:
    """Yields the rows of a table; `column` comes before what a network costs."""
    heads, more = ([column], [[each] for each in values]) if column else ([], [[]] * len(networks))
    rows = [("", *heads, "batch 1, ms", "file")]
    for network, cells in zip(networks, more, strict=True):
        title = f"{printable(network.file.name)}, {network.runtime}"
        size = f"{scaled(network.file_bytes)}B"
        rows.append((title, *cells, milliseconds(network.latency), size))
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for title, *cells in rows:
        shown = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([f"  {title:{widths[0]}}", *shown])


def _percent(right: int, labelled: int) -> str:
    return f"{100 * right / labelled:.{decimals(labelled)}f}" if labelled else "–"
