"""`python -m benchmarks.precision`."""

import sys

from benchmarks.precision.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
