"""`python -m benchmarks.collapse`."""

import sys

from benchmarks.collapse.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
