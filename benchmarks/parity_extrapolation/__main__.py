"""`python -m benchmarks.parity_extrapolation`."""

import sys

from benchmarks.parity_extrapolation.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
