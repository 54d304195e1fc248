"""`python -m benchmarks.chaos`: kills a training on two ranks again and again, and proves that
nothing was lost.

Both ranks are killed at once (SIGKILL to their process group), a third of the times aimed at a
checkpoint that is being written, else at a random moment of training; then the run is gone on with.
Asked for: every run can be gone on with, and every loss that was ever written down, of an update
done once or several times, is bit for bit that of a run that nobody disturbed. Rows are kept after
each kill, so that a benchmark that is stopped goes on where it was.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.harness.cli import finish, make_parser, open_rows
from benchmarks.harness.digest import PACKAGES, ROOT, code_digest
from benchmarks.harness.report import Figure
from benchmarks.harness.rows import Rows
from training.checkpoints import checkpoint
from training.distributed.process_group import free_port
from training.runs.metrics import FILE

STAGES = (2, 3)
UPDATES = 100_000  # more than are ever reached; the learning rate's schedule depends on it
TRAINING = (
    *(
        "pointer_chase",
        "--name",
        "run",
        "--updates",
        str(UPDATES),
        "--save-every",
        "3",
        "--eval-every",
        "1000000",
    ),
    *("--data.length", "6", "--batch-size", "8", "--model.width", "32", "--model.num-heads", "2"),
    *("--loop.max-steps", "4", "--timeout", "2", "--device", "cpu"),
)
MEASURED = (*PACKAGES, "benchmarks/chaos/benchmark.py")
"""What a row depends on."""
PATIENCE = 180.0


@dataclass(frozen=True)
class Kill:
    """One kill, and what came of it.

    Args:
        stage: ZeRO stage.
        number: which of this stage, from 0.
        saving: it was aimed at a checkpoint that was being written.
        torn: it left an unfinished checkpoint behind, so it did hit one.
        resumed: the update that the killed start had gone on from.
        reached: the last update that it wrote down.
        loadable: that start came to train; where not, `says` tells why.
    """

    stage: int
    number: int
    saving: bool
    torn: bool
    resumed: int
    reached: int
    loadable: bool
    says: str = ""


@dataclass
class Seen:
    """Losses by update, of every time that an update was done.

    Args:
        losses: each update's different ones.
    """

    losses: dict[int, set[float]] = field(default_factory=dict)

    def take(self, folder: Path) -> int:
        """Reads what a run has written down; gives its last update."""
        last = 0
        for line in (
            (folder / FILE).read_text(encoding="utf-8").splitlines()
            if (folder / FILE).exists()
            else []
        ):
            try:
                told = json.loads(line)
            except ValueError:
                continue  # the line in which it was killed
            if told["kind"] == "train":
                last = told["update"]
                self.losses.setdefault(last, set()).add(told["loss"])
        return last


class Ranks:
    """Two ranks of one training, in one process group.

    Args:
        work: where `runs/run` is.
        stage: ZeRO stage.
    """

    def __init__(self, work: Path, stage: int):
        self.work = work
        self.folder = work / "runs" / "run"
        resumes = bool(checkpoint.found(self.folder / "checkpoints"))
        if not resumes:
            shutil.rmtree(self.folder, ignore_errors=True)  # killed before it could save its start
        fresh = [*TRAINING, "--deepspeed-config", str(_config(work, stage))]
        words = ["--resume", str(self.folder)] if resumes else fresh
        ranks = " & ".join(f'RANK={rank} LOCAL_RANK={rank} "$@"' for rank in (0, 1))
        command = [
            "sh",
            "-c",
            f"{ranks} & wait",
            "ranks",
            sys.executable,
            "-m",
            "training.train",
            *words,
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
        }
        environment |= {
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
        }
        self.log = work / "log.txt"
        self.started = time.time()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=work, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_past(self, update: int) -> bool:
        """Waits until it has trained beyond an update; whether it came so far."""
        until = time.monotonic() + PATIENCE
        while Seen().take(self.folder) <= update or not self._writes():
            if self.process.poll() is not None or time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def _writes(self) -> bool:
        """Until this start has touched the file, the lines in it are those of the start before."""
        path = self.folder / FILE
        return path.exists() and path.stat().st_mtime > self.started

    def wait_for_saving(self) -> None:
        """Waits until a checkpoint is being written."""
        until = time.monotonic() + PATIENCE
        while not self.saves():
            if self.process.poll() is not None or time.monotonic() > until:
                return
            time.sleep(0.0005)

    def saves(self) -> bool:
        """Whether an unfinished checkpoint of this start is there; what a kill before left is
        older."""
        with contextlib.suppress(FileNotFoundError):  # renamed just now
            partial = (self.folder / "checkpoints").glob(".partial-*")
            return any(path.stat().st_mtime > self.started for path in partial)
        return False

    def end(self, number: int = signal.SIGKILL) -> None:
        """Sends the group a signal, and waits for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Kills what is missing; 0 when nothing was lost, 1 when something was."""
    parser = make_parser("chaos", __doc__, quick="4 kills unless told otherwise")
    parser.add_argument("--kills", type=int, default=100, help="over both stages")
    parser.add_argument(
        "--work",
        type=Path,
        default=None,
        help="where the runs are, a folder for each state of the code (default: runs/chaos)",
    )
    options = parser.parse_args(argv)
    kills = 4 if options.quick and options.kills == 100 else options.kills
    if kills < len(STAGES):
        parser.error(f"--kills {kills}: {len(STAGES)} stages need one each")
    with tempfile.TemporaryDirectory() as passing:
        code = code_digest(*MEASURED)
        usual = Path(passing) if options.quick else ROOT / "runs" / "chaos"
        work = (options.work or usual) / code
        if options.again:
            shutil.rmtree(work, ignore_errors=True)
        rows = open_rows("chaos", options, code)
        done = []
        seen = {}
        reference = {}
        for stage in STAGES:
            home = work / f"zero{stage}"
            seen[stage] = Seen()
            done += torment(home, stage, kills // len(STAGES), seen[stage], rows)
            reference[stage] = undisturbed(
                work / f"undisturbed{stage}", stage, max(seen[stage].losses, default=0)
            )
    figures = figures_of(done, seen, reference)
    return finish(options, figures, judges_quick=True)


def torment(home: Path, stage: int, kills: int, seen: Seen, rows: Rows) -> list[Kill]:
    """Kills a training so often; every third time it is aimed at its saving."""
    home.mkdir(parents=True, exist_ok=True)
    kept = _kept(rows, stage, home)
    seen.losses.update({int(update): set(losses) for update, losses in _losses(home).items()})
    for number in range(len(kept), kills):
        draw = random.Random(1000 * stage + number)
        newest = checkpoint.found(home / "runs" / "run" / "checkpoints")
        resumed = int(newest[-1].name.rpartition("-")[2]) if newest else 0
        ranks = Ranks(home, stage)
        saving = number % 3 == 2
        loadable = ranks.wait_until_past(resumed)
        if saving:
            ranks.wait_for_saving()
            time.sleep(draw.random() * 0.05)
        else:
            time.sleep(draw.random() * 0.8)
        loadable = loadable and ranks.process.poll() is None
        ranks.end()
        says = "" if loadable else ranks.log.read_text(encoding="utf-8", errors="replace")[-1500:]
        kept.append(
            Kill(
                stage,
                number,
                saving,
                ranks.saves(),
                resumed,
                seen.take(ranks.folder),
                loadable,
                says,
            )
        )
        (home / "losses.json").write_text(
            json.dumps({update: sorted(each) for update, each in seen.losses.items()})
        )
        rows.add(asdict(kept[-1]))
        told = "saving" if saving else "training"
        print(
            f"zero{stage} kill {number + 1}/{kills} while {told}: {resumed} → {kept[-1].reached} "
            f"{says}",
            flush=True,
        )
    return kept[:kills]


def undisturbed(home: Path, stage: int, last: int) -> Seen:
    """The losses of a run that nobody kills, up to an update."""
    home.mkdir(parents=True, exist_ok=True)
    seen = Seen()
    ranks = Ranks(home, stage)
    until = time.monotonic() + PATIENCE + last
    while (
        seen.take(ranks.folder) <= last
        and ranks.process.poll() is None
        and time.monotonic() < until
    ):
        time.sleep(0.2)
    ranks.end(signal.SIGINT)
    seen.take(ranks.folder)
    return seen


def figures_of(
    kills: Sequence[Kill], seen: dict[int, Seen], reference: dict[int, Seen]
) -> list[Figure]:
    """What was asked for."""
    unloadable = sum(not kill.loadable for kill in kills)
    differing = sum(
        losses != reference[stage].losses.get(update)
        for stage, each in seen.items()
        for update, losses in each.losses.items()
    )
    compared = sum(len(each.losses) for each in seen.values())
    torn = sum(kill.torn for kill in kills)
    return [
        Figure(
            f"runs lost, of {len(kills)} kills; {torn} cut a checkpoint",
            unloadable,
            "= 0",
            unloadable == 0,
        ),
        Figure(f"updates whose loss differs, of {compared}", differing, "= 0", differing == 0),
        Figure("updates compared", compared, "≥ 1", compared > 0),
    ]


def _config(work: Path, stage: int) -> Path:
    """ZeRO as it is for large models: without the threshold, so small a model stays whole on every
    rank."""
    path = work / "zero.json"
    section = {"stage": stage, **({"stage3_param_persistence_threshold": 0} if stage == 3 else {})}
    path.write_text(json.dumps({"zero_optimization": section}))
    return path


def _kept(rows: Rows, stage: int, home: Path) -> list[Kill]:
    """The kills of this stage that are there already, where their run is there, too."""
    names = Kill.__dataclass_fields__
    kept: list[Kill] = []
    if (home / "losses.json").exists():
        while (row := rows.find(stage=stage, number=len(kept))) is not None:
            kept.append(Kill(**{name: row[name] for name in names}))
    return kept


def _losses(home: Path) -> dict[str, list[float]]:
    path = home / "losses.json"
    return json.loads(path.read_text()) if path.exists() else {}
