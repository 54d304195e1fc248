"""`ponder train` as one of several ranks, each in a folder of its own, as on machines that share
none."""

import os
import sys
from pathlib import Path

from training.console.entry import run_entry
from training.train import main

if __name__ == "__main__":
    own = Path(sys.argv[1]) / os.environ["RANK"]
    own.mkdir(exist_ok=True)
    os.chdir(own)
    sys.exit(run_entry(main, sys.argv[2:]))
