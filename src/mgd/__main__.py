"""`python -m mgd` is `mgd`."""

import sys

from mgd.cli import main

if __name__ == "__main__":
    sys.exit(main())
