"""What a release promised stays until a later one has warned of it."""

import json

import typing_extensions

import mgd
from mgd.engine.options.config import OPTIONS
from released import FILE, is_deprecated, surface

RELEASED = json.loads(FILE.read_text())


def test_the_names_of_the_last_release_are_kept_for_it():
    assert RELEASED["version"] == mgd.__version__, "at a release: `python tests/released.py`"


def test_every_name_that_was_released_is_there():
    gone = set(RELEASED["names"]) - set(mgd.__all__)
    assert not gone, "keep them for one release, with `typing_extensions.deprecated`"
    assert all(hasattr(mgd, name) for name in RELEASED["names"])


def test_every_flag_that_was_released_is_read():
    read = {flag for item in OPTIONS.values() for flag in (item.flag, *item.flags, *item.former)}
    gone = set(RELEASED["flags"]) - read
    assert not gone, "keep them for one release: `option(..., former=...)`"


def test_a_name_with_a_warning_is_no_longer_promised(monkeypatch):
    @typing_extensions.deprecated("use `assign`")
    def solve():
        """Does nothing."""

    assert is_deprecated(solve)
    monkeypatch.setattr(mgd, "assign", solve)
    assert "assign" not in surface()["names"]
    assert "--loss-worth" not in surface()["flags"]
