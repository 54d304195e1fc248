"""`ponder train` as one of several ranks."""

import sys

from training.console.entry import run_entry
from training.distributed.process_end import end_process
from training.train import main

if __name__ == "__main__":
    end_process(run_entry(main, sys.argv[1:]))
