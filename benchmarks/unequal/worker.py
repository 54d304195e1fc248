"""One rank of `benchmarks.unequal`: trains the cases that a file lists, one after another; rank 0
writes the rows."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

from benchmarks.unequal.case import Case, as_row, run_case
from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import start


def main() -> None:
    """Arguments: the folder with `cases.json`, and the seconds that ranks wait for one another."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    limit = float(sys.argv[2])
    start(
        timedelta(seconds=limit),
        cpu=True,
        library_log=folder / f"library_log{collectives.rank()}.log",
    )
    now = folder / "now.json"
    for given in json.loads((folder / "cases.json").read_text()):
        case = Case(**given)
        before = time.perf_counter()
        if collectives.rank() == 0:
            now.write_text(
                json.dumps(given)
            )  # whoever watches sees which case it is, and by its time that it moves
        found = run_case(case, folder, alive=now.touch)
        if found is not None:
            with (folder / "rows.jsonl").open("a") as rows:
                rows.write(json.dumps(as_row(case, found, time.perf_counter() - before)) + "\n")
    leave(0)


if __name__ == "__main__":
    main()
