"""`python -m benchmarks.budget`."""

import sys

from benchmarks.budget.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
