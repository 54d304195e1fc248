"""Trains the trials of a sweep, several at a time, each in a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from training.config.run_config import RunConfig
from training.engine.threads import threads_of_a_trial
from training.tuning.space import Point, Space
from training.tuning.sweep import Claim, Sweep
from training.tuning.trial import FIGURES, read_figures
from training.tuning.trial_budget import TrialBudget

Keep = Literal["figures", "run", "nothing"]
_BETWEEN_LOOKS = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SMALL = ("config.json", "log.txt", "metrics.jsonl", FIGURES)
"""What stays of a run folder where only figures are kept."""


@dataclass
class SweepJob:
    """A trial at work.

    Args:
        claim: which.
        process: that trains it.
        pipe: whose closing ends the process; held by this process alone, so that it ends however
            this one does.
        log: where its words go.
        began: on the monotonic clock, seconds.
    """

    claim: Claim
    process: subprocess.Popen[bytes]
    log: Path
    began: float


class Worker:
    """Claims trials and trains them until none waits, or somebody asks to stop.

    Args:
        sweep: whose trials they are.
        space: what they vary.
        budget: of each; None for the recipe's own updates.
        seeds: of each setting that is drawn.
        drawn: how many settings the sampler may draw in all.
        jobs: how many at a time.
        keep: of a trial's run folder: its figures, all of it, or nothing.
        tell: is told in words of each trial that ends.
        look: is called several times a second with the trials at work.
    """

    def __init__(
        self,
        sweep: Sweep,
        space: Space,
        budget: TrialBudget | None,
        *,
        seeds: Sequence[int],
        drawn: int,
        jobs: int,
        keep: Keep,
        tell: Callable[[str, Claim], None],
        look: Callable[[list[SweepJob]], None],
    ):
        self.sweep = sweep
        self.space = space
        self.budget = budget
        self.seeds = seeds
        self.drawn = drawn
        self.jobs = jobs
        self.keep = keep
        self.tell = tell
        self.look = look
        self.running: list[SweepJob] = []
        self.asked: str | None = None

    def run(self) -> bool:
        """Works; False where it was asked to stop before all was done. Trials at work are then
        queued again."""
        before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        try:
            while self.asked is None:
                while len(self.running) < self.jobs and (
                    claim := self.sweep.claim(self.drawn, self.seeds)
                ):
                    self.running.append(self._start(claim))
                if not self.running:
                    return True
                self.look(self.running)
                time.sleep(_BETWEEN_LOOKS)
                for job in [job for job in self.running if job.process.poll() is not None]:
                    self.running.remove(job)
                    self._finish(job)
            return False
        finally:
            for job in self.running:
                self._end(job)
            for number, handler in before.items():
                signal.signal(number, handler)

    def config(self, point: Point, seed: int, number: int) -> RunConfig:
        """The config of a trial."""
        config = self.space.config(point)
        config = self.budget.apply(config) if self.budget is not None else config
        return config.replace(
            output=str(self.sweep.trials_folder),
            name=f"{number:04d}",
            seed=config.seed + seed,
            threads=config.launch.threads or threads_of_a_trial(self.jobs),
        )

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number).name

    def _start(self, claim: Claim) -> SweepJob:
        folder = self._folder(claim)
        shutil.rmtree(folder, ignore_errors=True)
        written = folder.with_suffix(".json")
        log = folder.with_suffix(".log")
        written.write_text(
            self.config(claim.point, claim.seed, claim.number).to_json(), encoding="utf-8"
        )
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "training.tuning.trial", str(written)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                # a Ctrl-C on the terminal is for the sweep, which then ends its trials
                start_new_session=True,
            )
        return SweepJob(claim, process, log, time.monotonic())

    def _finish(self, job: SweepJob) -> None:
        code = job.process.returncode
        folder = self._folder(job.claim)
        self._close(job)
        figures = read_figures(folder) if code == 0 else None
        if figures is not None:
            self.sweep.finish(job.claim, figures)
            self._tidy(job)
            self.tell("done", job.claim)
        elif code < 0:
            name = signal.Signals(-code).name
            again = self.sweep.give_back(job.claim, f"its process was ended by {name}", died=True)
            self.tell(
                f"ended by {name}, {'run again' if again else 'too often: it failed'}", job.claim
            )
        else:
            self.sweep.fail(job.claim, _last_words(job.log))
            self.tell(f"failed: {_last_words(job.log)} ({job.log})", job.claim)

    def _end(self, job: SweepJob) -> None:
        """Ends a trial that is not done; another process, or this command given again, runs it from
        its start."""
        os.killpg(job.process.pid, signal.SIGKILL)
        self._close(job)
        self.sweep.give_back(
            job.claim, f"the sweep was stopped by {self.asked or 'an error'}", died=False
        )

    def _close(self, job: SweepJob) -> None:
        job.process.wait()
        assert job.process.stdin is not None
        job.process.stdin.close()

    def _tidy(self, job: SweepJob) -> None:
        folder = self._folder(job.claim)
        job.log.with_suffix(".json").unlink(missing_ok=True)
        if self.keep == "nothing":
            shutil.rmtree(folder, ignore_errors=True)
            job.log.unlink(missing_ok=True)
        if self.keep == "figures":
            for path in [path for path in folder.iterdir() if path.name not in _SMALL]:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()

    def _folder(self, claim: Claim) -> Path:
        return self.sweep.trials_folder / f"{claim.number:04d}"


def _last_words(log: Path) -> str:
    """What a process said last, or what it said was wrong."""
    lines = [
        line.strip()
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    named = [line for line in lines if line.startswith(("error:", "warning: training stopped"))]
    return (named or lines or ["it said nothing"])[-1][:200]
