"""Trains a network without a teacher: the original's command line, see `mgd train --help`."""

import sys

from mgd.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
