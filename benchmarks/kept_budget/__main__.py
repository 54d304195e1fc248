"""`python -m benchmarks.kept_budget`."""

import sys

from benchmarks.kept_budget.benchmark import main
from training.console.entry import run_entry

if __name__ == "__main__":
    sys.exit(run_entry(main, sys.argv[1:]))
