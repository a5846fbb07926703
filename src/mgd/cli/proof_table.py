"""The lines that tell how an exported file compares with the network in PyTorch."""

from collections.abc import Iterator

from mgd.cli.compare_table import milliseconds, scaled
from mgd.cli.lines import decimals, printable
from mgd.engine.export import Measured, Proof


def proof_lines(proof: Proof) -> Iterator[str]:
    """Yields a table of the networks, and how far their answers agree.

    Args:
        proof: Of a file that is kept.
    """
    labelled = "" if proof.labelled == proof.images else f", {proof.labelled} of them with a label"
    yield f"proven on {proof.images} images of {printable(proof.source)}{labelled}"
    rows = [("", "Acc@1, %", "batch 1, ms", "file")]
    rows += [_cells(each, proof.labelled) for each in proof.networks]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for title, *cells in rows:
        shown = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([f"  {title:{widths[0]}}", *shown])
    yield f"same answer as in PyTorch: {proof.agreeing} of {proof.images} images"
    yield (
        f"largest difference of the logits: {proof.difference:.2g}, or {proof.relative:.2g} of the "
        "largest"
    )


def _cells(network: Measured, labelled: int) -> tuple[str, str, str, str]:
    accuracy = f"{100 * network.right / labelled:.{decimals(labelled)}f}" if labelled else "–"
    title = f"{printable(network.file.name)}, {network.runtime}"
    return title, accuracy, milliseconds(network.latency), f"{scaled(network.file_bytes)}B"
