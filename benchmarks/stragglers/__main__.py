"""`python -m benchmarks.stragglers`."""

import sys

from benchmarks.stragglers.benchmark import main
from training.console.entry import run_entry

if __name__ == "__main__":
    sys.exit(run_entry(main, sys.argv[1:]))
