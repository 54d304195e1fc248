"""`python -m benchmarks.rules`."""

import sys

from benchmarks.rules.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
