"""`python -m benchmarks.guarantee`."""

import sys

from benchmarks.guarantee.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
