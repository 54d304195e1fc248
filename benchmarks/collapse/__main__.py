"""`python -m benchmarks.collapse`."""

import sys

from benchmarks.collapse.benchmark import main
from training.console.entry import run_entry

if __name__ == "__main__":
    sys.exit(run_entry(main, sys.argv[1:]))
