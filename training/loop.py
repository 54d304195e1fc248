"""THE training loop, read top to bottom."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from training import agreement, checkpoint
from training.alarms import alarms, penalty_gradient
from training.build import Built
from training.checkpoint import Progress
from training.config import RunConfig
from training.dealing import Dealer
from training.engine.engine import Engine
from training.evaluation import evaluate
from training.growth import Growth
from training.horizon import Horizon
from training.interrupt import StopRequest
from training.launcher_watch import LauncherWatch
from training.learning_rate import learning_rate
from training.metrics import Metrics
from training.objective import objective
from training.ponder_penalty import Observed, make_penalty
from training.ranks import KIND, Ranks
from training.screen import Screen, clock, evaluation_line, position, thousands
from training.showing import show_fixed_example
from training.training_depth import training_depth

_MOST_SKIPPED = 5  # updates in a row whose gradient is not finite


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Args:
        progress: where it stands.
        reason: "finished" and "limit" have trained all that was asked for; "stopped" was told to by a signal;
            "lost" met a loss that is not finite, and its last checkpoint is from before.
        says: why, in words.
    """

    progress: Progress
    reason: Literal["finished", "limit", "stopped", "lost"]
    says: str = ""


@dataclass(frozen=True)
class Update:
    """What one update measured, over all ranks.

    Args:
        loss: what was minimised: task + penalty · cost.
        task_loss: nats per asked position.
        ponder_cost: per valid token, in the cost's unit.
        mean_steps: executed steps per valid token.
        mean_ponder: the depth that the rule means, as evaluation would show it, per valid token.
        depth: the step limit that it ran with.
        valid: tokens.
        stop: a rank was asked to stop.
        gradient_norm: before clipping.
        skipped: the gradient was not finite, and nothing changed.
    """

    loss: float
    task_loss: float
    ponder_cost: float
    mean_steps: float
    mean_ponder: float
    depth: int
    valid: int
    stop: bool
    gradient_norm: float = math.nan
    skipped: bool = False


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
        self.micro_batch = config.batch_size // (agreement.world_size() * config.accumulation)
        self.dealer = Dealer(built.task, built.predictor, config.accumulation, self.micro_batch)
        self.dealer.load_state_dict(progress.dealing)
        self.since, self.ranks = _Since(), Ranks(engine.device)
        self.evaluations = progress.update // config.eval_every
        self.growth = Growth(config, engine, built.task, folder, progress.update)
        self.skipped = 0

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
                coefficient = self.penalty.coefficient(scheduled)
                rate = learning_rate(config.optimizer, scheduled, config.updates)
                with self.ranks.update():
                    measured = self.update(coefficient, rate, request)
                if not math.isfinite(measured.loss):
                    return self._lose(f"loss became {measured.loss}", self.progress.update + 1)
                if self._often_skipped(measured):
                    return self._lose(
                        f"gradient was not finite {_MOST_SKIPPED} times in a row", self.progress.update + 1
                    )
                seconds = time.perf_counter() - before
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
                )
                self.seconds = self._seconds_agreed()
                self.since.add(measured, seconds)
                self._note(measured, coefficient, rate, seconds)
                late = self.horizon.met(self.progress, self.seconds)
                last = late is not None or self.horizon.ends(self.progress)
                evaluates = last or self.progress.update % config.eval_every == 0
                saves = last or measured.stop or self.progress.update % config.save_every == 0
                if (saves or evaluates) and not self.is_sound():
                    return self._lose("weights came to give no finite answers", self.progress.update)
                if measured.stop:
                    self.save()
                    return Ended(self.progress, "stopped", f"after {request.why or 'a signal to another rank'}")
                if evaluates:
                    self.evaluate(last)
                if saves:
                    self.save()
                if late and not self.horizon.ends(self.progress):
                    return Ended(self.progress, "limit", late)
        return Ended(self.progress, "finished")

    def update(self, coefficient: float, rate: float, request: StopRequest) -> Update:
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
                loss = loss + coefficient * terms.cost / valid.to(terms.cost.dtype)
            engine.backward(loss)
            self.dealer.count(batch, output.trace.steps)
            steps = output.trace.steps.sum()
            self.ranks.count(int(batch.valid.sum()), int(steps))
            ponder = torch.where(batch.valid, engine.model.recurrence.rule.exit_step(output.trace), 0.0).sum()
            sums[:4] += torch.stack([term.detach().double() for term in (terms.task, terms.cost, steps, ponder)])
        sums[4] = float(request.asked)
        parts = (sums, self.ranks.own(sums[2]), self.dealer.counted(device))
        total, of_ranks, taught = agreement.total(torch.cat(parts)).split([len(part) for part in parts])
        self.ranks.met(of_ranks)
        self.dealer.learn(taught)
        task, cost, steps, ponder, stop = total.tolist()
        task_loss, ponder_cost = task / float(asked), cost / float(valid)
        measured = Update(
            loss=task_loss + (coefficient * ponder_cost if self.cost is not None else 0.0),
            task_loss=task_loss,
            ponder_cost=ponder_cost,
            mean_steps=steps / float(valid),
            mean_ponder=ponder / float(valid),
            depth=depth,
            valid=int(valid),
            stop=stop > 0,
        )
        if not math.isfinite(measured.loss):
            return measured  # a step would carry it into the weights
        result = engine.step(rate)
        engine.model.recurrence.rule.end_update(agreement.total)
        return replace(measured, gradient_norm=result.gradient_norm, skipped=result.skipped)

    def evaluate(self, last: bool) -> None:
        """Figures over unseen examples, warnings, and now and then the map of the first of them."""
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
        if agreement.world_size() > 1:
            self.metrics.write(KIND, update, **ranks.values())
            self.screen.say(ranks.line())
        own = self.task.batch("train", self.progress.examples + agreement.rank() * self.micro_batch, self.micro_batch)
        for text in alarms(
            tally,
            adaptive=any(True for _ in self.engine.model.recurrence.rule.parameters()),
            gate_gradient=penalty_gradient(self.engine, own.rows(0, 8), self.cost, self.penalty.coefficient(update)),
            steps_of_ranks=ranks.mean_steps,
        ):
            self._warn(text)
        if (says := self.penalty.says()) is not None:
            self._warn(says)
        self.evaluations += 1
        if self.evaluations % config.map_every == 0 and not last:
            show_fixed_example(self.growth.record(update), self.screen)
        self.since, self.ranks = _Since(), Ranks(self.engine.device)

    def is_sound(self) -> bool:
        """Whether the weights, and an answer that they give, are finite on all ranks, and so worth a checkpoint."""
        if not checkpoint.has_finite_weights(self.engine):
            return False
        probe = evaluate(self.engine, self.task, "validation", agreement.world_size(), 1)
        return math.isfinite(probe.figures()["loss"])

    def save(self) -> None:
        """A checkpoint of this moment."""
        self.screen.progress("saving …")
        config = self.config
        checkpoint.save(self.checkpoints, self.engine, self.progress, config.keep_last, config.keep_every)
        self.screen.clear()

    def _warn(self, text: str) -> None:
        self.metrics.write("warning", self.progress.update, says=text)
        self.screen.warn(text)

    def _note(self, measured: Update, coefficient: float, rate: float, seconds: float) -> None:
        self.metrics.write(
            "train",
            self.progress.update,
            loss=measured.loss,
            task_loss=measured.task_loss,
            ponder_cost=measured.ponder_cost,
            penalty=coefficient,
            learning_rate=rate,
            gradient_norm=measured.gradient_norm,
            mean_steps=measured.mean_steps,
            mean_ponder=measured.mean_ponder,
            max_steps=measured.depth,
            tokens_per_second=measured.valid / max(seconds, 1e-9),
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
        return max(agreement.everyone(self.progress.train_seconds, self.engine.device))

    def _flops(self, measured: Update) -> float:
        return measured.valid * self.flops.training(measured.mean_steps) if self.flops is not None else 0.0

    def _often_skipped(self, measured: Update) -> bool:
        self.skipped = self.skipped + 1 if measured.skipped else 0
        if measured.skipped:
            self.screen.warn(
                f"update {self.progress.update + 1}: the gradient is not finite, and the weights stay as they are; a "
                "lower --optimizer.learning-rate may help"
            )
        return self.skipped >= _MOST_SKIPPED

    def _lose(self, what: str, update: int) -> Ended:
        kept = checkpoint.found(self.checkpoints)
        last = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint had been written"
        says = f"the {what} at update {update}; {last}"
        self.metrics.write("lost", update, says=says)
        return Ended(self.progress, "lost", says)


class _Since:
    """What happened since the last evaluation."""

    def __init__(self) -> None:
        self.updates, self.tokens, self.seconds = 0, 0, 0.0

    def add(self, measured: Update, seconds: float) -> None:
        self.updates, self.tokens, self.seconds = self.updates + 1, self.tokens + measured.valid, self.seconds + seconds

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)
