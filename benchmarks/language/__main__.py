"""`python -m benchmarks.language`."""

import sys

from benchmarks.language.benchmark import main
from training.console.entry import run_entry

if __name__ == "__main__":
    sys.exit(run_entry(main, sys.argv[1:]))
