"""`python -m benchmarks.reshape`."""

import sys

from benchmarks.reshape.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
