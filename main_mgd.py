"""Distils a network from a teacher: the original's command line, see `mgd distill --help`."""

import sys

from mgd.cli import main

if __name__ == "__main__":
    sys.exit(main(["distill", *sys.argv[1:]]))
