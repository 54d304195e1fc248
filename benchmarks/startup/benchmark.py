"""`python -m benchmarks.startup`: how long a command takes to answer, as a ratio to
`python -c "import torch"`.

The commands take turns, and each counts with its fastest turn, so that a machine that is busy with
other things slows all of them alike. Hardware and date go to the screen.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.cli import at_least_one, finish, make_parser
from benchmarks.harness.hardware import hardware
from benchmarks.harness.report import Figure

IMPORT_TORCH = (sys.executable, "-c", "import torch")
TARGETS = {
    ("--help",): 0.2,
    ("--version",): 0.2,
    ("train", "--help"): 1.3,
    ("train", "pointer_chase", "--help"): 1.5,
}
"""What `ponder` is asked, and how long it may take, in imports of torch."""


def ponder(words: Sequence[str]) -> tuple[str, ...]:
    """The command that a user types: the script beside this interpreter, else the module."""
    script = Path(sys.executable).with_name("ponder")
    start = (str(script),) if script.exists() else (sys.executable, "-m", "training.cli.main")
    return (*start, *words)


def seconds(command: Sequence[str]) -> float:
    """Wall-clock seconds of one run."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def fastest(commands: Sequence[Sequence[str]], repeats: int) -> list[float]:
    """Each command's fastest run, all of them in turns; a first run of each fills the file cache
    and does not count."""
    turns = [[seconds(command) for command in commands] for _ in range(repeats + 1)]
    return [min(times) for times in zip(*turns[1:], strict=True)]


def figures(repeats: int) -> list[Figure]:
    """The ratio of each command to the import of torch."""
    of_torch, *others = fastest([IMPORT_TORCH, *(ponder(words) for words in TARGETS)], repeats)
    print(f"import torch: {of_torch:.2f} s, the fastest of {repeats}")
    found = []
    for (words, target), taken in zip(TARGETS.items(), others, strict=True):
        ratio = taken / of_torch
        command = f"ponder {' '.join(words)}"
        print(f"{command}: {taken:.2f} s, {ratio:.2f} of that (target ≤ {target})")
        name = f"{command}, in imports of torch"
        found.append(Figure(name, round(ratio, 3), f"≤ {target}", ratio <= target))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; 1 when a target is missed."""
    parser = make_parser("startup", __doc__, quick="one turn of each", rows=False)
    parser.add_argument("--repeats", type=at_least_one, default=7, help="turns that count")
    options = parser.parse_args(argv)
    print(" · ".join(hardware().values()))
    return finish(options, figures(1 if options.quick else options.repeats))
