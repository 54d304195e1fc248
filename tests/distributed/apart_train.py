"""`ponder train` as one of several ranks, each in a folder of its own, as on machines that share
none."""

import os
import sys
from pathlib import Path

from training.console.entry import run_entry
from training.distributed.process_end import end_process
from training.train import main

if __name__ == "__main__":
    own = Path(sys.argv[1]) / os.environ["RANK"]
    own.mkdir(exist_ok=True)
    os.chdir(own)
    end_process(run_entry(main, sys.argv[2:]))
