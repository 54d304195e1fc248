"""THE training loop, read top to bottom."""

import math
import time
from dataclasses import replace

import torch

from training.checkpoints import checkpoint
from training.checkpoints.recovery import MOST, PENALTY_FACTOR, take_back
from training.distributed import collectives
from training.distributed.dealing import BatchBalancer
from training.distributed.stop_request import StopRequest
from training.evaluation.evaluate import evaluate
from training.evaluation.tally import Tally
from training.loop.alarms import Alarm, Signs, alarms
from training.loop.best_tracker import BestTracker
from training.loop.gate_gradient import enough, gate_gradient, over_ranks
from training.loop.outcome import TrainingOutcome, collapsed, lost_by_skipping, lost_weights
from training.loop.remedies import remedies
from training.loop.run_limits import RunLimits
from training.loop.training_depth import training_depth
from training.loop.training_log import TrainingLog
from training.loop.update import MetricsSinceEvaluation, Update
from training.ponder_penalty import Observed, coefficient
from training.runs.context import TrainingContext
from training.runs.growth import Growth, show_fixed_example
from training.runs.rank_report import KIND, RankReport, Ranks

_SHALLOW = 1.02
_SHALLOW_UPDATES = 10  # so few mean steps in so many updates in a row are looked at without waiting


class Training:
    """One run from where its progress stands to its end.

    Args:
        context: the run with all its parts.
    """

    def __init__(self, context: TrainingContext):
        config = context.config
        built = context.built
        engine = context.engine
        progress = context.progress
        self.context = context
        self.config = config
        self.task = built.task
        self.cost = built.cost
        self.objective = built.objective
        self.schedule = built.schedule
        self.engine = engine
        self.metrics = context.metrics
        self.screen = context.screen
        self.checkpoints = context.folder / "checkpoints"
        self.progress = progress
        self.penalty = built.penalty
        if progress.penalty:  # empty where the penalty was set by hand before
            self.penalty.load_state_dict(progress.penalty)
        self.best = BestTracker(config)
        self.best.load_state_dict(progress.best_checkpoint, self.checkpoints)
        self.limits = RunLimits(config)
        self.log = TrainingLog(config, engine, self.limits, context.metrics, context.screen)
        self.flops = built.flops
        self.seconds = 0.0
        self.micro_batch = config.batch_size // (collectives.world_size() * config.accumulation)
        self.balancer = BatchBalancer(
            built.task, built.predictor, config.accumulation, self.micro_batch
        )
        self.balancer.load_state_dict(progress.dealing)
        self.since = MetricsSinceEvaluation()
        self.ranks = Ranks(engine.device)
        self.evaluations = progress.update // config.evaluation.eval_every
        self.growth = Growth(config, engine, built.task, context.folder, progress.update)
        self.shallow = 0

    def run(self) -> TrainingOutcome:
        """Trains to the end, or until something ends it."""
        config = self.config
        self.engine.train()
        self.seconds = self._seconds_agreed()
        if self.progress.update == 0:
            # whatever comes, the run can go on; and a disk that is full is noticed before the work
            self.save()
            self.growth.record(0)
        with self.context.stop_request as request:
            while (
                not self.best.exhausted
                and not self.limits.done(self.progress)
                and self.limits.reached(self.progress, self.seconds) is None
            ):
                before = time.perf_counter()
                scheduled = self.limits.scheduled(self.progress, self.seconds)
                weight = self._penalty_scale * self.penalty.coefficient(scheduled)
                rate = self.schedule.rate(config.optimizer.learning_rate, scheduled, config.updates)
                with self.ranks.update():
                    measured = self.update(weight, rate, request)
                seconds = time.perf_counter() - before
                if not measured.skipped:  # no controller learns from what is no number
                    observed = Observed(
                        measured.mean_ponder,
                        measured.task_loss,
                        rate / config.optimizer.learning_rate,
                    )
                    self.penalty.observe(scheduled, observed)
                self.progress = replace(
                    self.progress,
                    update=self.progress.update + 1,
                    examples=self.progress.examples + config.batch_size,
                    train_seconds=self.progress.train_seconds + seconds,
                    penalty=self.penalty.state_dict(),
                    dealing=self.balancer.state_dict(),
                    flops=self.progress.flops + self._flops(measured),
                    mean_steps=self.progress.mean_steps
                    if measured.skipped
                    else measured.mean_steps,
                    first_loss=self.progress.first_loss
                    or (None if measured.skipped else measured.task_loss),
                    skipped=self.progress.skipped + measured.skipped,
                    skipped_in_a_row=self.progress.skipped_in_a_row + 1 if measured.skipped else 0,
                )
                self.seconds = self._seconds_agreed()
                self.since.add(measured, seconds)
                self.log.update(
                    self.progress,
                    measured,
                    self.since,
                    penalty=weight,
                    rate=rate,
                    seconds=seconds,
                    agreed_seconds=self.seconds,
                )
                if self.progress.skipped_in_a_row >= config.limits.max_skipped:
                    return self._end(
                        lost_by_skipping(self.config, self.progress, self.checkpoints, measured)
                    )
                late = self.limits.reached(self.progress, self.seconds)
                last = late is not None or self.limits.done(self.progress)
                evaluates = (
                    last
                    or self.progress.update % config.evaluation.eval_every == 0
                    or self._turned_shallow(measured)
                )
                saves = (
                    last or measured.stop or self.progress.update % config.saving.save_every == 0
                )
                if (saves or evaluates) and not self.is_sound():
                    lost = lost_weights(self.config, self.progress, self.checkpoints)
                    return self._end(lost)
                if measured.stop:
                    self.save()
                    return TrainingOutcome(
                        self.progress,
                        "stopped",
                        f"after {request.why or 'a signal to another rank'}",
                    )
                if evaluates and self.evaluate(last) and config.on_collapse != "warn":
                    if config.on_collapse == "stop":
                        return self._end(collapsed(self.progress))
                    if (
                        not last
                    ):  # when nothing is left to train, going back would only cost what was learned
                        if not self.recover():
                            return self._end(collapsed(self.progress))
                        continue
                if saves or self.best.exhausted or self.best.update == self.progress.update:
                    self.save()
                if late and not self.limits.done(self.progress):
                    return TrainingOutcome(self.progress, "limit", late)
                if self.best.exhausted and not last:
                    return TrainingOutcome(self.progress, "limit", self.best.says())
        return TrainingOutcome(self.progress, "finished")

    def update(self, weight: float, rate: float, request: StopRequest) -> Update:
        """One optimizer update over the global batch. The counts that a loss is divided by are the
        global batch's, so the gradient is the same for any number of ranks and micro-batches."""
        engine = self.engine
        device = self.engine.device
        given = self.balancer.batches(self.progress.examples, device)
        target_weight = given.target_weight
        valid = given.valid
        depth = training_depth(self.config, self.progress.update)
        sums = torch.zeros(6, dtype=torch.float64, device=device)
        has_auxiliary = False
        for batch in given.batches:
            output = engine.forward(batch, max_steps=depth)
            terms = self.objective(output, batch, self.cost)
            loss = terms.task / target_weight.to(terms.task.dtype)
            if self.cost is not None:
                loss = loss + weight * terms.cost / valid.to(terms.cost.dtype)
            if terms.block is not None:
                loss = loss + terms.block / valid.to(terms.block.dtype)
                sums[5] += terms.block.detach().double()
                has_auxiliary = True
            engine.backward(loss)
            self.balancer.count(batch, output.trace.steps)
            steps = output.trace.steps.sum()
            self.ranks.count(int(batch.valid.sum()), int(steps))
            ponder = torch.where(
                batch.valid, engine.model.recurrence.rule.exit_step(output.trace), 0.0
            ).sum()
            sums[:4] += torch.stack(
                [term.detach().double() for term in (terms.task, terms.cost, steps, ponder)]
            )
        sums[4] = float(request.asked)
        parts = (sums, self.ranks.own(sums[2]), self.balancer.counted(device))
        total, of_ranks, taught = collectives.all_reduce_sum(torch.cat(parts)).split(
            [len(part) for part in parts]
        )
        self.ranks.met(of_ranks)
        self.balancer.learn(taught)
        task, cost, steps, ponder, stop, block = total.tolist()
        task_loss = task / float(target_weight)
        ponder_cost = cost / float(valid)
        auxiliary = block / float(valid)
        measured = Update(
            loss=task_loss + (weight * ponder_cost if self.cost is not None else 0.0) + auxiliary,
            task_loss=task_loss,
            ponder_cost=ponder_cost,
            mean_steps=steps / float(valid),
            mean_ponder=ponder / float(valid),
            depth=depth,
            valid=int(valid),
            stop=stop > 0,
            auxiliary_loss=auxiliary if has_auxiliary else None,
        )
        result = engine.step(rate)
        assert result.skipped or math.isfinite(measured.loss), (
            "the engine carried it into the weights"
        )
        engine.model.recurrence.rule.end_update(collectives.all_reduce_sum)
        return replace(measured, gradient_norm=result.gradient_norm, skipped=result.skipped)

    def evaluate(self, last: bool) -> bool:
        """Figures over unseen examples, warnings, and now and then the map of the first of them;
        whether halting has collapsed, on all ranks the same."""
        config = self.config
        update = self.progress.update
        self.screen.progress("evaluating …")
        tally = evaluate(
            self.engine, self.task, "validation", config.evaluation.eval_examples, self.micro_batch
        )
        figures = tally.figures()
        if last or update % config.evaluation.eval_every == 0:
            self.best.observe(figures, update)
        self.progress = replace(
            self.progress,
            best=max(self.progress.best, figures["accuracy"]),
            best_checkpoint=self.best.state_dict(),
        )
        self.log.evaluation(self.progress, tally, self.since, self.seconds)
        ranks = self.ranks.report()
        if collectives.world_size() > 1:
            self.metrics.write(KIND, update, **ranks.values())
            self.screen.say(ranks.line())
        wrong = self.wrong(tally, ranks)
        for alarm in wrong:
            self.log.warn(update, alarm.says)
        if (says := self.penalty.says()) is not None:
            self.log.warn(update, says)
        self.evaluations += 1
        if self.evaluations % config.evaluation.map_every == 0 and not last:
            show_fixed_example(self.growth.record(update), self.screen)
        self.since, self.ranks = MetricsSinceEvaluation(), Ranks(self.engine.device)
        return any(alarm.collapse for alarm in wrong)

    def wrong(self, tally: Tally, ranks: RankReport) -> list[Alarm]:
        """What seems wrong, on all ranks the same."""
        rule = self.engine.model.recurrence.rule
        since = self.since
        scheduled = self.limits.scheduled(self.progress, self.seconds)
        own = self.task.batch(
            "train",
            self.progress.examples + collectives.rank() * self.micro_batch,
            self.micro_batch,
        )
        weight = self._penalty_scale * self.penalty.coefficient(scheduled)
        gradient = gate_gradient(self.engine, enough(own), self.objective, self.cost, weight)
        first = self.progress.first_loss
        task = since.task_loss / max(1, since.taken)
        half = self.limits.fraction(self.progress, self.seconds) >= 0.5
        learned = any(True for _ in rule.parameters())
        signs = Signs(
            tally,
            adaptive=learned or rule.fixed_depth(tally.max_steps) is None,
            gate=over_ranks(collectives.all_gather_object(gradient)),
            steps_of_ranks=tuple(ranks.mean_steps),
            spreads_mass=rule.spreads_mass,
            penalty_share=since.penalty_share
            if self.cost is not None and self.cost.warms_up
            else None,
            task_share=task / first if first and since.taken else None,
            settled=half and scheduled >= self.config.penalty.warmup,
            remedies=remedies(self.config, self.cost),
            learned=learned,
        )
        return alarms(signs)

    def recover(self) -> bool:
        """Goes on from the last good checkpoint with a lower penalty and halting bias; False where
        that cannot be, or was tried often enough."""
        before = self.progress
        was = self._penalty_scale
        taken = take_back(self.checkpoints, self.engine) if before.recoveries < MOST else None
        if taken is None:
            return False
        update = taken.progress.update
        count = before.recoveries + 1
        spent = {"train_seconds": before.train_seconds, "flops": before.flops, "recoveries": count}
        self.progress = replace(taken.progress, best=before.best, **spent)
        if self.progress.penalty:
            self.penalty.load_state_dict(self.progress.penalty)
        self.balancer.load_state_dict(self.progress.dealing)
        self.best.load_state_dict(self.progress.best_checkpoint, self.checkpoints)
        self.metrics.rewind(update, f"metrics.collapsed-{count}.jsonl")
        self.growth = Growth(self.config, self.engine, self.task, self.checkpoints.parent, update)
        self.evaluations = update // self.config.evaluation.eval_every
        self.shallow = 0
        self.since, self.ranks = MetricsSinceEvaluation(), Ranks(self.engine.device)
        weight = (
            self.config.penalty.ramp[1]
            if self.config.penalty.ramp
            else coefficient(self.config.penalty.value, self.cost)
        )
        bias = f", halting bias {taken.bias[0]:.2g} → {taken.bias[1]:.2g}" if taken.bias else ""
        self.log.warn(
            update,
            f"recovering ({count} of {MOST}) from the collapse at update {before.update}: going on "
            f"after update {update}, penalty {was * weight:.2g} → "
            f"{self._penalty_scale * weight:.2g}{bias}",
        )
        self.engine.train()
        self.save()
        return True

    def is_sound(self) -> bool:
        """Whether the weights, and an answer that they give, are finite on all ranks, and so worth
        a checkpoint."""
        if not checkpoint.has_finite_weights(self.engine):
            return False
        probe = evaluate(self.engine, self.task, "validation", collectives.world_size(), 1)
        return math.isfinite(probe.figures()["loss"])

    def save(self) -> None:
        """A checkpoint of this moment."""
        self.screen.progress("saving …")
        config = self.config
        keep_good = config.on_collapse == "recover"
        checkpoint.save(
            self.checkpoints,
            self.engine,
            self.progress,
            config.saving.keep_last,
            config.saving.keep_every,
            keep_good,
            self.best.update,
        )
        self.screen.clear()

    def _seconds_agreed(self) -> float:
        """Training seconds of the slowest rank, so that all ranks reach a time limit at the same
        update."""
        if self.config.limits.time_limit is None:
            return self.progress.train_seconds  # nothing is decided by it
        return max(collectives.all_gather(self.progress.train_seconds, self.engine.device))

    def _flops(self, measured: Update) -> float:
        return (
            measured.valid * self.flops.training(measured.mean_steps)
            if self.flops is not None
            else 0.0
        )

    @property
    def _penalty_scale(self) -> float:
        """What the penalty is multiplied by: each recovery has shown that it was too much."""
        return PENALTY_FACTOR**self.progress.recoveries

    def _turned_shallow(self, measured: Update) -> bool:
        """Whether training tokens have just stopped at step 1 for some updates, so that it is time
        to look."""
        adaptive = any(True for _ in self.engine.model.recurrence.rule.parameters())
        shallow = adaptive and measured.depth > 1 and measured.mean_steps <= _SHALLOW
        self.shallow = self.shallow + 1 if shallow else 0
        return self.shallow == _SHALLOW_UPDATES

    def _end(self, outcome: TrainingOutcome) -> TrainingOutcome:
        """Notes that the training ended otherwise than it was asked to."""
        self.metrics.write(outcome.reason, self.progress.update, says=outcome.note or outcome.says)
        return outcome
