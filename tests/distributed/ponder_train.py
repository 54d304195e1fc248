"""`ponder train` as one of several ranks."""

import sys

from training.console.entry import run_entry
from training.train import main

if __name__ == "__main__":
    sys.exit(run_entry(main, sys.argv[1:]))
