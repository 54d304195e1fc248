"""`python -m benchmarks.compute`."""

import sys

from benchmarks.compute.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
