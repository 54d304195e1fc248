"""`python -m benchmarks.stragglers`."""

import sys

from benchmarks.stragglers.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
