"""The version is written in `mgd/version.py` alone; every other place must agree with it."""

import re
from importlib.metadata import version
from pathlib import Path

import yaml

import mgd

ROOT = Path(__file__).parents[1]
RELEASE = r"## \[?(\d+\.\d+\.\d+)\]?.* (\d{4}-\d{2}-\d{2})"


def test_the_installed_metadata_has_the_version():
    installed = version("matching-guided-distillation")
    assert installed == mgd.__version__, "install again: `touch pyproject.toml && make test`"


def test_the_citation_has_the_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == mgd.__version__


def test_the_changelog_dates_this_version_and_goes_back_in_time():
    headings = re.findall(r"^## .*", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    headings = [heading for heading in headings if "Unreleased" not in heading]
    releases = [re.fullmatch(RELEASE, heading) for heading in headings]
    assert all(releases), f"a heading is `## [0.1.0] - 2026-11-22`: {headings}"
    assert mgd.__version__ == releases[0][1]
    dates = [release[2] for release in releases]
    assert dates == sorted(dates, reverse=True)
