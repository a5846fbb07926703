"""The command line: `mgd COMMAND`, and the original's two scripts."""

from mgd.cli.main import main

__all__ = ["main"]
