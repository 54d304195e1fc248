"""`python -m benchmarks.startup`."""

import sys

from benchmarks.startup.benchmark import main
from training.console.entry import run_entry

if __name__ == "__main__":
    sys.exit(run_entry(main, sys.argv[1:]))
