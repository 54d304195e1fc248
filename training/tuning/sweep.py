"""The folder of a sweep: an Optuna study in SQLite, and locks that tell a trial at work from one
whose process died.

Several processes may share it. Each change of the queue is made under the folder's lock; each trial
at work is locked by the process that trains it, and the system lets go of that lock when the
process dies, however it does: so a trial that is at work in the study and not locked is dead, and
is queued again.
"""

import fcntl
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halting.errors import UsageError
from training.console.command_text import command_text
from training.tuning.axis import Axis
from training.tuning.claim import Claim, Settings
from training.tuning.database import DATABASE, holds_study, open_study
from training.tuning.space import Point, Space
from training.tuning.trial_budget import TrialBudget

if TYPE_CHECKING:  # optuna is slow to import
    from optuna import Study
    from optuna.trial import FrozenTrial

QUALITIES = {"accuracy": 1.0, "sequence_accuracy": 1.0, "bits": -1.0}
"""What may stand on the quality's axis, and its sign: more is better."""
_LOCK = ".lock"
_MOST_DEATHS = 3


class Sweep:
    """A sweep's folder.

    Args:
        folder: where it is, or is to be.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.trials_folder = folder / "trials"
        self._study: Study | None = None

    @property
    def exists(self) -> bool:
        """Whether a sweep was begun here.

        Raises:
            UsageError: where its file cannot be read, or is another's.
        """
        return self._study is not None or holds_study(self.folder / DATABASE)

    @property
    def study(self) -> "Study":
        """Optuna's study: maximise the quality, minimise the compute.

        Raises:
            UsageError: where there is none.
        """
        if self._study is None:
            if not self.exists:
                raise UsageError(
                    f"{self.folder} holds no sweep.",
                    f"There is no {DATABASE} in "
                    f"it{' with a study' if (self.folder / DATABASE).exists() else ''}.",
                    "Write the folder that ponder tune made, or begin one: ponder tune RECIPE "
                    "--penalty.value 0 1e-3 1e-2",
                )
            self._study = open_study(self.folder / DATABASE, begin=False)
        return self._study

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While it is entered, no other process changes the queue."""
        with (self.folder / _LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def begin(self, space: Space, budget: TrialBudget | None, quality: str) -> None:
        """Makes the sweep, or joins the one that is there; gives it the axes that it hasn't yet.

        Raises:
            UsageError: where the folder holds something else, or a sweep of another recipe, budget
                or quality.
        """
        self._make_folder()
        wanted = Settings(
            space.recipe, space.fixed, None if budget is None else str(budget), quality
        )
        with self.alone():
            if self._study is None:
                self._study = open_study(self.folder / DATABASE, begin=not self.exists)
            there = self.settings() if self.study.user_attrs else None
            if there is not None:
                self._check_same_settings(there, wanted)
            axes = self._joined(space.axes)
            if there is None:
                with warnings.catch_warnings():
                    warnings.simplefilter(
                        "ignore"
                    )  # they are experimental, and only names on the dashboard
                    self.study.set_metric_names([quality, "flops_per_token"])
                about = {**vars(wanted), "fixed": list(wanted.fixed)}
                self.study.set_user_attr("settings", about)
            self.study.set_user_attr("axes", {name: axis.asdict() for name, axis in axes.items()})

    def settings(self) -> Settings:
        """What the sweep was begun with.

        Raises:
            UsageError: where there is none.
        """
        about = self.study.user_attrs.get("settings")
        if about is None:
            raise UsageError(
                f"The sweep in {self.folder} was stopped before it had begun.",
                "It does not know its recipe yet.",
                "Give the whole command again: ponder tune RECIPE --penalty.value 0 1e-3 1e-2 "
                f"--out {self.folder}",
            )
        return Settings(**{**about, "fixed": tuple(about["fixed"])})

    def axes(self) -> dict[str, Axis]:
        """All axes so far, by name."""
        return {
            name: Axis.fromdict(about)
            for name, about in self.study.user_attrs.get("axes", {}).items()
        }

    def queue(self, points: Sequence[Point], seeds: Sequence[int]) -> int:
        """Queues each point with each seed that is not there yet, seed by seed; how many are new.
        What has failed is tried again."""
        with self.alone():
            from optuna.trial import TrialState

            states = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
            there = {_key(*setting_of(trial)) for trial in self.trials(states)}
            missing = [
                (point, seed)
                for seed in seeds
                for point in points
                if _key(point, seed) not in there
            ]
            for point, seed in missing:
                self._enqueue(point, seed)
        return len(missing)

    def claim(self, drawn: int = 0, seeds: Sequence[int] = (0,)) -> Claim | None:
        """The next trial that waits, now at work for this process; None where none waits.

        Args:
            drawn: settings that the sampler may draw in all, where the axes are ranges.
            seeds: of each that it draws.
        """
        with self.alone():
            self._requeue_dead()
            from optuna.trial import TrialState

            waiting = self.trials((TrialState.WAITING,))
            if not waiting and len(self._settings_there()) >= drawn:
                return None
            trial = self.study.ask()
            axes = self.axes()
            if waiting:
                point = trial.user_attrs["point"]
                seed = trial.user_attrs["seed"]
                for name in point:
                    axes[name].suggest(trial)
            else:
                point = {name: axis.suggest(trial) for name, axis in axes.items()}
                seed = seeds[0]
                trial.set_user_attr("point", point)
                trial.set_user_attr("seed", seed)
            trial.suggest_int("seed", seed, seed)
            held = self._lock_of(trial.number).open("a")
            fcntl.flock(held, fcntl.LOCK_EX)
            if not waiting:
                for other in seeds[1:]:
                    self._enqueue(point, other)
        return Claim(trial.number, point, seed, held)

    def finish(self, claim: Claim, figures: dict[str, float]) -> None:
        """Writes down what a trial measured."""
        quality = self.settings().quality
        with self.alone():
            self._note(claim.number, "figures", figures)
            value = QUALITIES[quality] * figures[quality]
            self.study.tell(claim.number, [value, figures["flops_per_token"]])
        self._release(claim)

    def fail(self, claim: Claim, says: str) -> None:
        """Writes down why a trial gives no figures; it counts as tried."""
        self._end(claim, {"failed": says})

    def give_back(self, claim: Claim, says: str, *, died: bool) -> bool:
        """Queues a trial again that ended before it was done; False where its process has died too
        often, so that it failed.

        Args:
            claim: the trial.
            says: why.
            died: by itself, so that it may be its own fault.
        """
        deaths = self._attributes(claim.number).get("deaths", 0) + died
        if deaths >= _MOST_DEATHS:
            self.fail(claim, f"{says}, {deaths} times")
            return False
        with self.alone():
            self._requeue(claim.number, says, deaths)
            self._discard(claim.number)
        claim.held.close()
        return True

    def trials(self, states: "Sequence[Any] | None" = None) -> "list[FrozenTrial]":
        """The study's trials, of some states or all."""
        return self.study.get_trials(
            deepcopy=False, states=None if states is None else tuple(states)
        )

    def counts(self) -> dict[str, int]:
        """How many trials wait, work and are done, and how many have failed and were not tried
        again."""
        from optuna.trial import TrialState

        states = {
            TrialState.WAITING: "waiting",
            TrialState.RUNNING: "working",
            TrialState.COMPLETE: "done",
        }
        newest: dict[str, str] = {}
        for trial in self.trials():
            name = states.get(trial.state) or ("failed" if "failed" in trial.user_attrs else None)
            if name:
                newest[_key(*setting_of(trial))] = name
        return {name: list(newest.values()).count(name) for name in (*states.values(), "failed")}

    def _make_folder(self) -> None:
        """Makes the folder, or sees that it is a sweep's, perhaps one that another process just
        begins."""
        try:
            if not self.exists and self.folder.exists():
                ours = {DATABASE, f"{DATABASE}-journal", _LOCK, self.trials_folder.name}
                trials = self.trials_folder.exists() and any(self.trials_folder.iterdir())
                if trials or not {path.name for path in self.folder.iterdir()} <= ours:
                    raise UsageError(
                        f"{self.folder} exists already, and is no sweep.",
                        "A sweep never writes into what is there.",
                        "Write another --out, or remove it.",
                    )
            self.trials_folder.mkdir(parents=True, exist_ok=True)
            with self.alone():
                pass
        except OSError as error:
            raise UsageError(
                f"No sweep can be kept in {self.folder}: {error.strerror}.",
                "Its trials and what they measured are written there as it goes.",
                "Write an --out that you may write to.",
            ) from error

    def _settings_there(self) -> set[str]:
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
        return {_key(setting_of(trial)[0], None) for trial in self.trials(states)}

    def _joined(self, new: Sequence[Axis]) -> dict[str, Axis]:
        axes = self.axes()
        for axis in new:
            there = axes.get(axis.name, axis)
            other_names = axis.kind == "names" and not set(axis.words) <= set(there.words)
            if axis.kind != there.kind or other_names:
                raise UsageError(
                    f"--{axis.name} was swept here as {there.kind} "
                    f"({' '.join(there.words) or 'drawn'}).",
                    "Optuna lets no parameter of a study change its kind, nor a list of names "
                    "grow.",
                    "Write values of that kind, or begin another sweep: --out DIR.",
                )
            axes[axis.name] = there.joined(axis)
        return axes

    def _check_same_settings(self, there: Settings, wanted: Settings) -> None:
        for name, flag in (
            ("recipe", ""),
            ("fixed", ""),
            ("budget", "--trial-budget "),
            ("quality", "--quality "),
        ):
            was = getattr(there, name)
            now = getattr(wanted, name)
            if was != now:
                shown = [
                    " ".join(each) if isinstance(each, tuple) else str(each) for each in (was, now)
                ]
                raise UsageError(
                    f"{self.folder} was swept with {flag}{shown[0] or 'no other flags'}; here with "
                    f"{flag}{shown[1] or 'no other flags'}.",
                    "Trials that differ in more than what is swept cannot be compared.",
                    "Write what it was begun with "
                    f"({command_text('ponder', 'tune', '--out', self.folder)} alone goes on), or "
                    "another --out.",
                )

    def _requeue_dead(self) -> None:
        from optuna.trial import TrialState

        for trial in self.trials((TrialState.RUNNING,)):
            with self._lock_of(trial.number).open("a") as held:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # somebody trains it
                self._requeue(
                    trial.number, "its process had died", trial.user_attrs.get("deaths", 0)
                )
                self._discard(trial.number)

    def _requeue(self, number: int, says: str, deaths: int) -> None:
        from optuna.trial import TrialState

        point, seed = setting_of(self.study.trials[number])
        self._note(number, "run_again", says)
        self.study.tell(number, state=TrialState.FAIL)
        self._enqueue(point, seed, deaths)

    def _enqueue(self, point: Point, seed: int, deaths: int = 0) -> None:
        axes = self.axes()
        params = {name: axes[name].value(word) for name, word in point.items()}
        attributes = {"point": dict(point), "seed": seed, "deaths": deaths}
        self.study.enqueue_trial({**params, "seed": seed}, user_attrs=attributes)

    def _end(self, claim: Claim, attributes: Mapping[str, str]) -> None:
        from optuna.trial import TrialState

        with self.alone():
            for name, value in attributes.items():
                self._note(claim.number, name, value)
            self.study.tell(claim.number, state=TrialState.FAIL)
        self._release(claim)

    def _release(self, claim: Claim) -> None:
        """Lets go of a trial that has ended in the study, so that nobody looks at its lock
        again."""
        self._lock_of(claim.number).unlink(missing_ok=True)
        claim.held.close()

    def _discard(self, number: int) -> None:
        """Removes what a trial has left that is run again under another number."""
        folder = self.trials_folder / f"{number:04d}"
        shutil.rmtree(folder, ignore_errors=True)
        for left in (
            folder.with_suffix(".log"),
            folder.with_suffix(".json"),
            self._lock_of(number),
        ):
            left.unlink(missing_ok=True)

    def _note(self, number: int, name: str, value: Any) -> None:
        import optuna

        optuna.Trial(self.study, self.study.trials[number]._trial_id).set_user_attr(name, value)

    def _attributes(self, number: int) -> dict[str, Any]:
        return self.study.trials[number].user_attrs

    def _lock_of(self, number: int) -> Path:
        return self.trials_folder / f".{number:04d}.lock"


def setting_of(trial: "FrozenTrial") -> tuple[Point, int]:
    """The setting and the seed of a trial."""
    return trial.user_attrs.get("point", {}), trial.user_attrs.get("seed", 0)


def _key(point: Point, seed: int | None) -> str:
    return json.dumps([sorted(point.items()), seed])
