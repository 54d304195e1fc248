"""THE training loop, read top to bottom."""

import math
import time
from dataclasses import replace

import torch

from training.checkpoints import checkpoint
from training.checkpoints.recovery import MOST, PENALTY_FACTOR, take_back
from training.distributed import collectives
from training.distributed.dealing import BatchBalancer
from training.distributed.last_sign import LAST_SIGN
from training.distributed.stop_request import StopRequest
from training.evaluation.evaluate import Diverged, EvaluationStopped, evaluate
from training.evaluation.step_losses import SHARE, step_losses
from training.evaluation.tally import Tally
from training.loop.alarms import Alarm, alarms
from training.loop.best_tracker import BestTracker
from training.loop.budget_tracker import BudgetTracker
from training.loop.gate_gradient import enough, gate_gradient, over_ranks
from training.loop.outcome import TrainingOutcome, collapsed, lost_by_skipping, lost_weights
from training.loop.run_limits import RunLimits
from training.loop.shallow_watch import ShallowWatch
from training.loop.signs import signs_of
from training.loop.soundness import is_sound
from training.loop.training_depth import training_depth
from training.loop.training_log import TrainingLog
from training.loop.update import MetricsSinceEvaluation, Update, advanced
from training.objectives.objective import asking
from training.ponder_penalty import Observed, coefficient
from training.runs.context import TrainingContext
from training.runs.growth import Growth, show_fixed_example
from training.runs.rank_report import KIND, RankReport, Ranks


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
        self.budget = BudgetTracker(config)
        self.budget.load_state_dict(progress.budget_checkpoint, self.checkpoints)
        self.limits = RunLimits(config)
        self.log = TrainingLog(config, engine, self.limits, context.metrics, context.screen)
        self.flops = built.flops
        self.seconds = 0.0
        self.micro_batch = config.batch_size // (collectives.world_size() * config.accumulation)
        self.ask = asking(built.objective, engine.model, built.task, self.micro_batch)
        self.balancer = BatchBalancer(
            built.task, built.predictor, config.accumulation, self.micro_batch
        )
        self.balancer.load_state_dict(progress.dealing)
        self.since = MetricsSinceEvaluation()
        self.ranks = Ranks(engine.device)
        self.evaluations = progress.update // config.evaluation.eval_every
        self.growth = self._growth(progress.update)
        self.shallow = ShallowWatch(engine.model.recurrence.rule)

    def run(self) -> TrainingOutcome:
        """Trains to the end, or until something ends it."""
        config = self.config
        self.engine.train()
        self.seconds = self._seconds_agreed()
        with self.context.stop_request.training() as request:
            if self.progress.update == 0:
                # whatever comes, the run can go on; and a full disk is noticed before the work
                self.save()
                self.growth.record(0)
            while (
                not self.best.exhausted
                and not self.limits.done(self.progress)
                and self.limits.reached(self.progress, self.seconds) is None
            ):
                before = time.perf_counter()
                done = self.limits.fraction(self.progress, self.seconds)
                scheduled = self.limits.scheduled(self.progress, self.seconds)
                weight = self._penalty_scale * self.penalty.coefficient(scheduled)
                rate = self.schedule.rate(config.optimizer.learning_rate, scheduled, config.updates)
                with self.ranks.update():
                    measured = self.update(weight, rate, request)
                seconds = time.perf_counter() - before
                if not measured.skipped:  # no controller learns from what is no number
                    share = rate / config.optimizer.learning_rate
                    observed = Observed(measured.mean_ponder, measured.task_loss, share)
                    self.penalty.observe(scheduled, observed)
                self.progress = advanced(
                    self.progress,
                    measured,
                    seconds,
                    examples=config.batch_size,
                    flops=self._flops(measured),
                    penalty=self.penalty.state_dict(),
                    dealing=self.balancer.state_dict(),
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
                within_budget = self.look(done)
                late = self.limits.reached(self.progress, self.seconds)
                last = late is not None or self.limits.done(self.progress)
                evaluates = (
                    last
                    or self.progress.update % config.evaluation.eval_every == 0
                    or self.shallow.turned(measured)
                )
                saves = (
                    last
                    or measured.stop
                    or within_budget
                    or self.progress.update % config.saving.save_every == 0
                )
                try:
                    if (saves or evaluates) and not is_sound(self.engine, self.task):
                        raise Diverged
                    if measured.stop:
                        return self._stopped(request)
                    has_collapsed = evaluates and self.evaluate(last)
                except EvaluationStopped:
                    return self._stopped(request)
                except Diverged:
                    lost = lost_weights(config, self.progress, self.checkpoints, self.engine)
                    return self._end(lost)
                if has_collapsed and config.on_collapse != "warn":
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
        LAST_SIGN.mark(f"update {self.progress.update + 1}")
        given = self.balancer.batches(self.progress.examples, device)
        target_weight = given.target_weight
        valid = given.valid
        depth = training_depth(self.config, self.progress.update)
        sums = torch.zeros(6, dtype=torch.float64, device=device)
        has_auxiliary = False
        for batch in given.batches:
            output = engine.forward(batch, max_steps=depth, asked=self.ask(batch))
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
        whether halting has collapsed, on all ranks the same. Raises EvaluationStopped or Diverged,
        before anything has changed, where somebody asks to stop or the loss is no number."""
        update = self.progress.update
        config = self.config
        count = config.evaluation.eval_examples
        self.screen.progress("evaluating …")
        request = self.context.stop_request
        what = self.engine, self.task, "validation"
        tally = evaluate(*what, count, self.micro_batch, request=request)
        figures = tally.figures()
        if not math.isfinite(figures["loss"]):
            raise Diverged
        by_step = step_losses(*what, -(-count // SHARE), self.micro_batch, request)
        if last or update % config.evaluation.eval_every == 0:
            self.best.observe(figures, update)
        self.progress = replace(
            self.progress,
            best=max(self.progress.best, figures["accuracy"]),
            best_checkpoint=self.best.state_dict(),
        )
        self.log.evaluation(self.progress, tally, by_step, self.since, self.seconds)
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

    def look(self, done: float) -> bool:
        """Where a target is to be held, and it is time: the depth that evaluation takes, of which
        the penalty is told; whether this update's checkpoint lies within the budget.

        Args:
            done: the share of the run that was done before this update.
        """
        share = self.limits.fraction(self.progress, self.seconds)
        update = self.progress.update
        ponder = self.budget.look(done, share, update, self.engine, self.task, self.micro_batch)
        if ponder is None:
            return False
        self.penalty.evaluated(self.limits.scheduled(self.progress, self.seconds), ponder)
        self.metrics.write("look", update, mean_ponder=ponder)
        self.progress = replace(
            self.progress,
            penalty=self.penalty.state_dict(),
            budget_checkpoint=self.budget.state_dict(),
        )
        return self.budget.update == update

    def wrong(self, tally: Tally, ranks: RankReport) -> list[Alarm]:
        """What seems wrong, on all ranks the same."""
        scheduled = self.limits.scheduled(self.progress, self.seconds)
        first = self.progress.examples + collectives.rank() * self.micro_batch
        own = self.task.batch("train", first, self.micro_batch)
        weight = self._penalty_scale * self.penalty.coefficient(scheduled)
        gradient = gate_gradient(self.engine, enough(own), self.objective, self.cost, weight)
        half = self.limits.fraction(self.progress, self.seconds) >= 0.5
        signs = signs_of(
            self.config,
            self.cost,
            self.engine.model.recurrence.rule,
            tally,
            ranks,
            self.since,
            gate=over_ranks(collectives.all_gather_object(gradient)),
            first_loss=self.progress.first_loss,
            settled=half and scheduled >= self.config.penalty.warmup,
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
        self.growth = self._growth(update)
        self.evaluations = update // self.config.evaluation.eval_every
        self.shallow.reset()
        self.since, self.ranks = MetricsSinceEvaluation(), Ranks(self.engine.device)
        weight = (
            self.config.penalty.ramp[1]
            if self.config.penalty.ramp
            else coefficient(self.config.penalty.value, self.cost)
        )
        moved = f"penalty {was * weight:.2g} → {self._penalty_scale * weight:.2g}"
        self.log.warn(update, taken.says(count, before.update, moved))
        self.engine.train()
        self.save()
        return True

    def save(self) -> None:
        """A checkpoint of this moment."""
        if self.context.lock is not None:
            self.context.lock.check()
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
            [each for each in (self.best.update, self.budget.update) if each is not None],
        )
        self.screen.clear()

    def _growth(self, update: int) -> Growth:
        """The maps of this run, without those of updates that are done anew."""
        folder = self.context.folder
        return Growth(self.config, self.engine, self.task, folder, update, self.screen.warn)

    def _seconds_agreed(self) -> float:
        """Training seconds of the slowest rank: all reach a time limit at the same update."""
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

    def _stopped(self, request: StopRequest) -> TrainingOutcome:
        self.save()
        why = request.why or "a signal to another rank"
        return TrainingOutcome(self.progress, "stopped", f"after {why}")

    def _end(self, outcome: TrainingOutcome) -> TrainingOutcome:
        """Notes that the training ended otherwise than it was asked to."""
        self.metrics.write(outcome.reason, self.progress.update, says=outcome.note or outcome.says)
        return outcome
