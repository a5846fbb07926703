"""What the last release promised; `python tests/released.py` writes it anew for the next release.

A name among them may not go without a release that warns of it (CONTRIBUTING.md, "Names that
change"); `tests/test_released.py` compares.
"""

import json
from pathlib import Path

import mgd
from mgd.engine.options.config import OPTIONS

FILE = Path(__file__).parent / "golden" / "released.json"


def surface():
    """Returns the public names of the library and the flags of the command line, as they are now.

    Names that give a warning are not promised any more, so they are left out.
    """
    return {
        "version": mgd.__version__,
        "names": sorted(name for name in mgd.__all__ if not is_deprecated(getattr(mgd, name))),
        "flags": sorted(flag for item in OPTIONS.values() for flag in (item.flag, *item.flags)),
    }


def is_deprecated(thing):
    return hasattr(thing, "__deprecated__")  # `typing_extensions.deprecated` sets it


if __name__ == "__main__":
    FILE.write_text(json.dumps(surface(), indent=1) + "\n")
