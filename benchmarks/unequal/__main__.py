"""`python -m benchmarks.unequal`."""

import sys

from benchmarks.unequal.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
