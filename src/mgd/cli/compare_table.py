"""The table of a comparison, as wide as the terminal lets it be."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from mgd.cli.lines import printable
from mgd.engine.loop.opening import WIDTH
from mgd.runfolder import ComparedNetwork, Comparison, Latency

_UNKNOWN = "–"
_UNITS = ("", "K", "M", "G", "T")


def comparison_lines(comparison: Comparison, columns: int | None = None) -> Iterator[str]:
    """Yields the table of a comparison, and what its columns mean.

    A network has a line; two, its name above, where the columns of a terminal are too few.

    Args:
        comparison: What was found.
        columns: Of the terminal; by default its own, and no limit where the output is none.
    """
    if columns is None:
        is_terminal = sys.stdout.isatty()
        columns = shutil.get_terminal_size().columns if is_terminal else sys.maxsize
    networks = comparison.networks
    titles = [_title(each) for each in networks]
    rows = [_headings(networks), *(_cells(each, networks) for each in networks)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    gap = "  " if 2 + sum(widths) + 2 * (len(widths) - 1) <= columns else " "
    texts = [
        gap.join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    widest = max(map(len, titles))
    if widest + 2 + len(texts[0]) <= columns:
        for title, text in zip(["", *titles], texts, strict=True):
            yield f"{title:{widest}}  {text}".rstrip()
    else:
        yield f"  {texts[0]}"
        for title, text in zip(titles, texts[1:], strict=True):
            yield from textwrap.wrap(title, max(20, columns), subsequent_indent="    ")
            yield f"  {text}"
    yield ""
    yield from _notes(comparison)


def _title(network: ComparedNetwork) -> str:
    name, arch = printable(network.name), printable(network.arch)
    details = [arch] if arch and arch not in network.name else []
    if len(network.accuracies) > 1 and not network.is_teacher:
        details.append(f"{len(network.accuracies)} runs")
    if network.is_teacher and "teacher" not in network.name:
        details.append("teacher")
    return f"{name} ({', '.join(details)})" if details else name


def _batches(networks: Sequence[ComparedNetwork]) -> list[int]:
    costs = [each.cost for each in networks if each.cost is not None]
    return [each.batch for each in costs[0].latencies] if costs else []


def _headings(networks: Sequence[ComparedNetwork]) -> list[str]:
    times = [f"batch {batch}, ms" for batch in _batches(networks)]
    return ["params", "mult-adds", "file", "px", *times, *_if_known(networks, "Acc@1, %")]


def _if_known(networks: Sequence[ComparedNetwork], cell: str) -> list[str]:
    """Returns the cell of the accuracy; none where no network has one."""
    return [cell] if any(each.accuracies for each in networks) else []


def _cells(network: ComparedNetwork, networks: Sequence[ComparedNetwork]) -> list[str]:
    cost = network.cost
    if cost is None:
        unknown = [_UNKNOWN] * (4 + len(_batches(networks)))
        return [*unknown, *_if_known(networks, _accuracy(network))]
    return [
        scaled(cost.parameters),
        scaled(cost.multiply_adds),
        f"{scaled(cost.file_bytes)}B",
        str(cost.size),
        *map(milliseconds, cost.latencies),
        *_if_known(networks, _accuracy(network)),
    ]


def _accuracy(network: ComparedNetwork) -> str:
    if network.accuracy is None:
        return _UNKNOWN
    spread = "" if network.spread is None else f" ± {network.spread:.1f}"
    return f"{network.accuracy:.1f}{spread}{'*' if network.is_agreement else ''}"


def scaled(value: int | None) -> str:
    """Writes a number with three digits and its unit; a dash for one that is not known.

    Example:
        >>> [scaled(value) for value in (5006, 25_557_032, 4_089_184_256, 999_900, None)]
        ['5.01 K', '25.6 M', '4.09 G', '1.00 M', '–']
    """
    if value is None:
        return _UNKNOWN
    number, unit = float(value), 0
    while number >= 999.5 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.{_decimals(number)}f} {_UNITS[unit]}" if unit else f"{value} "


def _decimals(number: float) -> int:
    """Returns the decimals that make three digits; at most three."""
    return sum(number < least for least in (99.95, 9.995, 0.9995))


def milliseconds(latency: Latency) -> str:
    """Writes a latency: median, and quartiles in brackets."""
    places = min(2, _decimals(latency.median))
    median, low, high = (
        f"{value:.{places}f}" for value in (latency.median, latency.low, latency.high)
    )
    return f"{median} ({low}–{high})"


def _notes(comparison: Comparison) -> Iterator[str]:
    networks = comparison.networks
    threads = "1 thread" if comparison.threads == 1 else f"{comparison.threads} threads"
    where = (
        f"on {comparison.device} with {threads}"
        if comparison.device == "cpu"
        else (f"on {comparison.device}")
    )
    yield from _wrapped(
        "params, mult-adds: parameters, and multiply-adds for one image in convolutions, matrix "
        "products and attention (torch's FlopCounterMode, halved); normalisation, activations and "
        "pooling are not counted"
    )
    yield from _wrapped(
        "file: the file of the weights; for a network by name, the safetensors file that they "
        "would make"
    )
    yield from _wrapped(
        f"ms: milliseconds for a batch, median of {comparison.rounds} rounds (and quartiles), "
        f"{where}: the network alone, without reading images; networks of one architecture, "
        "number of classes and size are timed once"
    )
    numbers = sorted({each.cost.classes for each in networks if each.cost and not each.source})
    if numbers:
        yield from _wrapped(
            f"networks by name: random weights, {' or '.join(map(str, numbers))} classes"
        )
    yield from _about_accuracies(networks)


def _about_accuracies(networks: Sequence[ComparedNetwork]) -> Iterator[str]:
    known = [each for each in networks if each.accuracies]
    if not known:
        return
    spread = "; mean ± standard deviation over runs" if any(each.spread for each in known) else ""
    images = list(dict.fromkeys(each.images for each in known))
    where = images[0] if len(images) == 1 else "the images below"
    yield from _wrapped(f"Acc@1: as the runs measured it on {where}{spread}")
    if any(each.is_agreement for each in known):
        yield from _wrapped("*: agreement with the teacher, since no image has a label")
    if len(images) > 1:
        yield from _wrapped("accuracies on different images say little beside each other:")
        for each in known:
            yield from _wrapped(f"{each.name}: {each.images}", "  ")


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )
