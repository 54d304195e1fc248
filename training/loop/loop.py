"""THE training loop, read top to bottom."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from halting.errors import UsageError
from training.build import Built
from training.checkpoints import checkpoint
from training.checkpoints.checkpoint import Progress
from training.checkpoints.recovery import MOST, PENALTY_FACTOR, take_back
from training.config.run_config import RunConfig
from training.console.screen import Screen, clock, evaluation_line, position, thousands
from training.dealing import Dealer
from training.distributed import collectives
from training.distributed.launcher_watch import LauncherWatch
from training.distributed.stop_request import StopRequest
from training.engine.engine import Engine
from training.evaluation.evaluate import evaluate
from training.evaluation.tally import Tally
from training.loop.alarms import Alarm, Signs, alarms
from training.loop.gate_gradient import enough, gate_gradient, over_ranks
from training.loop.horizon import Horizon
from training.loop.learning_rate import learning_rate
from training.loop.remedies import remedies
from training.loop.training_depth import training_depth
from training.loop.update import Since, Update
from training.objective import objective
from training.ponder_penalty import Observed, coefficient, make_penalty
from training.runs.growth import Growth
from training.runs.metrics import Metrics
from training.runs.rank_report import KIND, RankReport, Ranks
from training.runs.showing import show_fixed_example

_SHALLOW, _SHALLOW_UPDATES = 1.02, 10  # so few mean steps in so many updates in a row are looked at without waiting


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Args:
        progress: where it stands.
        reason: "finished" and "limit" have trained all that was asked for; "stopped" was told to by a signal;
            "lost" met too many updates that are not finite, or weights that give no answers; "collapsed" was told to
            stop when halting collapsed, or to recover and could not.
        says: why, in words.
        error: of a lost one, what to do about it.
    """

    progress: Progress
    reason: Literal["finished", "limit", "stopped", "lost", "collapsed"]
    says: str = ""
    error: UsageError | None = None


class Training:
    """One run from where its progress stands to its end.

    Args:
        config: the run.
        built: its task, model and cost.
        engine: runs the model.
        folder: the run folder.
        metrics, screen: where figures go; silent on all ranks but the first.
        progress: where to start.
        launcher: what started this rank; the training stops when it has gone.
    """

    def __init__(
        self,
        config: RunConfig,
        built: Built,
        engine: Engine,
        folder: Path,
        metrics: Metrics,
        screen: Screen,
        progress: Progress,
        launcher: LauncherWatch | None = None,
    ):
        self.config, self.task, self.cost = config, built.task, built.cost
        self.engine, self.metrics, self.screen = engine, metrics, screen
        self.checkpoints = folder / "checkpoints"
        self.progress, self.launcher = progress, launcher
        self.penalty, self.horizon = make_penalty(config, built.cost, progress.penalty), Horizon(config)
        self.flops, self.seconds = built.flops, 0.0
        self.micro_batch = config.batch_size // (collectives.world_size() * config.accumulation)
        self.dealer = Dealer(built.task, built.predictor, config.accumulation, self.micro_batch)
        self.dealer.load_state_dict(progress.dealing)
        self.since, self.ranks = Since(), Ranks(engine.device)
        self.evaluations = progress.update // config.eval_every
        self.growth = Growth(config, engine, built.task, folder, progress.update)
        self.shallow = 0

    def run(self) -> Ended:
        """Trains to the end, or until something ends it."""
        config = self.config
        self.engine.train()
        self.seconds = self._seconds_agreed()
        if self.progress.update == 0:
            self.save()  # whatever comes, the run can go on; and a disk that is full is noticed before the work
            self.growth.record(0)
        with StopRequest(self.launcher) as request:
            while not self.horizon.ends(self.progress) and self.horizon.met(self.progress, self.seconds) is None:
                before = time.perf_counter()
                scheduled = self.horizon.scheduled(self.progress, self.seconds)
                weight = self._eased * self.penalty.coefficient(scheduled)
                rate = learning_rate(config.optimizer, scheduled, config.updates)
                with self.ranks.update():
                    measured = self.update(weight, rate, request)
                seconds = time.perf_counter() - before
                if not measured.skipped:  # no controller learns from what is no number
                    observed = Observed(measured.mean_ponder, measured.task_loss, rate / config.optimizer.learning_rate)
                    self.penalty.observe(scheduled, observed)
                self.progress = replace(
                    self.progress,
                    update=self.progress.update + 1,
                    examples=self.progress.examples + config.batch_size,
                    train_seconds=self.progress.train_seconds + seconds,
                    penalty=self.penalty.state_dict(),
                    dealing=self.dealer.state_dict(),
                    flops=self.progress.flops + self._flops(measured),
                    mean_steps=self.progress.mean_steps if measured.skipped else measured.mean_steps,
                    first_loss=self.progress.first_loss or (None if measured.skipped else measured.task_loss),
                    skipped=self.progress.skipped + measured.skipped,
                    skipped_in_a_row=self.progress.skipped_in_a_row + 1 if measured.skipped else 0,
                )
                self.seconds = self._seconds_agreed()
                self.since.add(measured, seconds)
                self._note(measured, weight, rate, seconds)
                if self.progress.skipped_in_a_row >= config.max_skipped:
                    return self._lose_skipped(measured)
                late = self.horizon.met(self.progress, self.seconds)
                last = late is not None or self.horizon.ends(self.progress)
                evaluates = last or self.progress.update % config.eval_every == 0 or self._turned_shallow(measured)
                saves = last or measured.stop or self.progress.update % config.save_every == 0
                if (saves or evaluates) and not self.is_sound():
                    return self._lose(
                        "The weights came to give no finite answers", "A checkpoint of them would be worth nothing"
                    )
                if measured.stop:
                    self.save()
                    return Ended(self.progress, "stopped", f"after {request.why or 'a signal to another rank'}")
                if evaluates and self.evaluate(last) and config.on_collapse != "warn":
                    if config.on_collapse == "stop":
                        return self._collapse()
                    if not last:  # when nothing is left to train, going back would only cost what was learned
                        if not self.recover():
                            return self._collapse()
                        continue
                if saves:
                    self.save()
                if late and not self.horizon.ends(self.progress):
                    return Ended(self.progress, "limit", late)
        return Ended(self.progress, "finished")

    def update(self, weight: float, rate: float, request: StopRequest) -> Update:
        """One optimizer update over the global batch. The counts that a loss is divided by are the global batch's, so
        the gradient is the same for any number of ranks and micro-batches."""
        engine, device = self.engine, self.engine.device
        hand = self.dealer.hand(self.progress.examples, device)
        asked, valid = hand.asked, hand.valid
        depth = training_depth(self.config, self.progress.update)
        sums = torch.zeros(5, dtype=torch.float64, device=device)
        for batch in hand.batches:
            output = engine.forward(batch, max_steps=depth)
            terms = objective(output, batch, self.cost)
            loss = terms.task / asked.to(terms.task.dtype)
            if self.cost is not None:
                loss = loss + weight * terms.cost / valid.to(terms.cost.dtype)
            engine.backward(loss)
            self.dealer.count(batch, output.trace.steps)
            steps = output.trace.steps.sum()
            self.ranks.count(int(batch.valid.sum()), int(steps))
            ponder = torch.where(batch.valid, engine.model.recurrence.rule.exit_step(output.trace), 0.0).sum()
            sums[:4] += torch.stack([term.detach().double() for term in (terms.task, terms.cost, steps, ponder)])
        sums[4] = float(request.asked)
        parts = (sums, self.ranks.own(sums[2]), self.dealer.counted(device))
        total, of_ranks, taught = collectives.total(torch.cat(parts)).split([len(part) for part in parts])
        self.ranks.met(of_ranks)
        self.dealer.learn(taught)
        task, cost, steps, ponder, stop = total.tolist()
        task_loss, ponder_cost = task / float(asked), cost / float(valid)
        measured = Update(
            loss=task_loss + (weight * ponder_cost if self.cost is not None else 0.0),
            task_loss=task_loss,
            ponder_cost=ponder_cost,
            mean_steps=steps / float(valid),
            mean_ponder=ponder / float(valid),
            depth=depth,
            valid=int(valid),
            stop=stop > 0,
        )
        result = engine.step(rate)
        assert result.skipped or math.isfinite(measured.loss), "the engine carried it into the weights"
        engine.model.recurrence.rule.end_update(collectives.total)
        return replace(measured, gradient_norm=result.gradient_norm, skipped=result.skipped)

    def evaluate(self, last: bool) -> bool:
        """Figures over unseen examples, warnings, and now and then the map of the first of them; whether halting has
        collapsed, on all ranks the same."""
        config, update = self.config, self.progress.update
        self.screen.progress("evaluating …")
        tally = evaluate(self.engine, self.task, "validation", config.eval_examples, self.micro_batch)
        figures = tally.figures()
        self.progress = replace(self.progress, best=max(self.progress.best, figures["accuracy"]))
        self.metrics.write("evaluation", update, **figures, steps_by_difficulty=tally.by_difficulty())
        self.screen.say(
            evaluation_line(
                self._where(), figures, tally.survival(), tally.max_steps, self.since.tokens_per_second, self._eta()
            )
        )
        ranks = self.ranks.report()
        if collectives.world_size() > 1:
            self.metrics.write(KIND, update, **ranks.values())
            self.screen.say(ranks.line())
        wrong = self.wrong(tally, ranks)
        for alarm in wrong:
            self._warn(alarm.says)
        if (says := self.penalty.says()) is not None:
            self._warn(says)
        self.evaluations += 1
        if self.evaluations % config.map_every == 0 and not last:
            show_fixed_example(self.growth.record(update), self.screen)
        self.since, self.ranks = Since(), Ranks(self.engine.device)
        return any(alarm.collapse for alarm in wrong)

    def wrong(self, tally: Tally, ranks: RankReport) -> list[Alarm]:
        """What seems wrong, on all ranks the same."""
        rule, since = self.engine.model.recurrence.rule, self.since
        scheduled = self.horizon.scheduled(self.progress, self.seconds)
        own = self.task.batch("train", self.progress.examples + collectives.rank() * self.micro_batch, self.micro_batch)
        weight = self._eased * self.penalty.coefficient(scheduled)
        gradient = gate_gradient(self.engine, enough(own), self.cost, weight)
        first, task = self.progress.first_loss, since.task_loss / max(1, since.taken)
        half = self.horizon.done(self.progress, self.seconds) >= 0.5
        learned = any(True for _ in rule.parameters())
        signs = Signs(
            tally,
            adaptive=learned or rule.fixed_depth(tally.max_steps) is None,
            gate=over_ranks(collectives.gathered(gradient)),
            steps_of_ranks=tuple(ranks.mean_steps),
            spreads_mass=rule.spreads_mass,
            penalty_share=since.penalty_share if self.cost is not None and self.cost.warms_up else None,
            task_share=task / first if first and since.taken else None,
            settled=half and scheduled >= self.config.penalty.warmup,
            remedies=remedies(self.config, self.cost),
            learned=learned,
        )
        return alarms(signs)

    def recover(self) -> bool:
        """Goes on from the last good checkpoint with a lower penalty and halting bias; False where that cannot be, or
        was tried often enough."""
        before, was = self.progress, self._eased
        taken = take_back(self.checkpoints, self.engine) if before.recoveries < MOST else None
        if taken is None:
            return False
        update, count = taken.progress.update, before.recoveries + 1
        spent = {"train_seconds": before.train_seconds, "flops": before.flops, "recoveries": count}
        self.progress = replace(taken.progress, best=before.best, **spent)
        if self.progress.penalty:
            self.penalty.load_state_dict(self.progress.penalty)
        self.dealer.load_state_dict(self.progress.dealing)
        self.metrics.rewind(update, f"metrics.collapsed-{count}.jsonl")
        self.growth = Growth(self.config, self.engine, self.task, self.checkpoints.parent, update)
        self.evaluations, self.shallow = update // self.config.eval_every, 0
        self.since, self.ranks = Since(), Ranks(self.engine.device)
        weight = (
            self.config.penalty.ramp[1] if self.config.penalty.ramp else coefficient(self.config.penalty, self.cost)
        )
        bias = f", halting bias {taken.bias[0]:.2g} → {taken.bias[1]:.2g}" if taken.bias else ""
        self._warn(
            f"recovering ({count} of {MOST}) from the collapse at update {before.update}: going on after update "
            f"{update}, penalty {was * weight:.2g} → {self._eased * weight:.2g}{bias}"
        )
        self.engine.train()
        self.save()
        return True

    def is_sound(self) -> bool:
        """Whether the weights, and an answer that they give, are finite on all ranks, and so worth a checkpoint."""
        if not checkpoint.has_finite_weights(self.engine):
            return False
        probe = evaluate(self.engine, self.task, "validation", collectives.world_size(), 1)
        return math.isfinite(probe.figures()["loss"])

    def save(self) -> None:
        """A checkpoint of this moment."""
        self.screen.progress("saving …")
        config = self.config
        keep_good = config.on_collapse == "recover"
        checkpoint.save(self.checkpoints, self.engine, self.progress, config.keep_last, config.keep_every, keep_good)
        self.screen.clear()

    def _warn(self, text: str) -> None:
        self.metrics.write("warning", self.progress.update, says=text)
        self.screen.warn(text)

    def _note(self, measured: Update, weight: float, rate: float, seconds: float) -> None:
        self.metrics.write(
            "train",
            self.progress.update,
            loss=measured.loss,
            task_loss=measured.task_loss,
            ponder_cost=measured.ponder_cost,
            penalty=weight,
            learning_rate=rate,
            gradient_norm=measured.gradient_norm,
            mean_steps=measured.mean_steps,
            mean_ponder=measured.mean_ponder,
            max_steps=measured.depth,
            tokens_per_second=measured.valid / max(seconds, 1e-9),
            skipped=self.progress.skipped,
            **({} if self.engine.loss_scale is None else {"loss_scale": self.engine.scale}),
        )
        if measured.skipped:
            done = self.progress
            self.screen.warn(
                f"update {done.update} is skipped: loss {measured.loss:.4g}, gradient norm "
                f"{measured.gradient_norm:.4g}; {done.skipped_in_a_row} in a row, and {self.config.max_skipped} stop "
                "the run"
            )
        self.screen.progress(
            f"{self._where()}  loss {measured.loss:.3f}  steps {measured.mean_steps:.2f}  "
            f"{thousands(self.since.tokens_per_second)} tok/s  eta {clock(self._eta())}"
        )

    def _where(self) -> str:
        done = self.horizon.done(self.progress, self.seconds) if self.horizon.stretched else None
        return position(self.progress.update, self.config.updates, done)

    def _eta(self) -> float:
        """Seconds to go, by the speed since the last evaluation."""
        if not self.horizon.stretched:
            return (self.config.updates - self.progress.update) * self.since.seconds / max(1, self.since.updates)
        done = self.horizon.done(self.progress, self.seconds)
        return self.progress.train_seconds * (1 - done) / max(done, 1e-9)

    def _seconds_agreed(self) -> float:
        """Training seconds of the slowest rank, so that all ranks reach a time limit at the same update."""
        if self.config.time_limit is None:
            return self.progress.train_seconds  # nothing is decided by it
        return max(collectives.everyone(self.progress.train_seconds, self.engine.device))

    def _flops(self, measured: Update) -> float:
        return measured.valid * self.flops.training(measured.mean_steps) if self.flops is not None else 0.0

    @property
    def _eased(self) -> float:
        """What the penalty is multiplied by: each recovery has shown that it was too much."""
        return PENALTY_FACTOR**self.progress.recoveries

    def _turned_shallow(self, measured: Update) -> bool:
        """Whether training tokens have just stopped at step 1 for some updates, so that it is time to look."""
        adaptive = any(True for _ in self.engine.model.recurrence.rule.parameters())
        shallow = adaptive and measured.depth > 1 and measured.mean_steps <= _SHALLOW
        self.shallow = self.shallow + 1 if shallow else 0
        return self.shallow == _SHALLOW_UPDATES

    def _collapse(self) -> Ended:
        tried = f" again, after {self.progress.recoveries} recoveries" if self.progress.recoveries else ""
        says = f"halting collapsed{tried}, at update {self.progress.update}"
        self.metrics.write("collapsed", self.progress.update, says=says)
        return Ended(self.progress, "collapsed", says)

    def _lose_skipped(self, measured: Update) -> Ended:
        done, times = self.progress, self.config.max_skipped
        return self._lose(
            f"Loss or gradient was not finite {times} times in a row (loss {measured.loss:.4g}, gradient norm "
            f"{measured.gradient_norm:.4g}; {done.skipped} of all updates were skipped)",
            "Such an update changes nothing, so those after it would start from the same weights",
        )

    def _lose(self, what: str, why: str) -> Ended:
        update, folder = self.progress.update, self.checkpoints.parent
        kept = checkpoint.found(self.checkpoints)
        last = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint had been written"
        self.metrics.write("lost", update, says=f"{what}; {last}")
        error = UsageError(
            f"{what}, at update {update}.",
            f"{why}; {last}.",
            f"Go on from it with smaller steps: ponder train --resume {folder} --optimizer.learning-rate "
            f"{self.config.optimizer.learning_rate / 3:.1g}; --max-skipped {4 * self.config.max_skipped} bears with "
            "more of them.",
        )
        return Ended(self.progress, "lost", f"{what} at update {update}", error)
