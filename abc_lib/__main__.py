"""``python -m abc_lib``: see :mod:`abc_lib.study.command`."""

import sys

from abc_lib.study.command import main

if __name__ == "__main__":
    sys.exit(main())
