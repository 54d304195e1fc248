"""A batch that a run computes again and again, to be measured."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import torch
from torch import Tensor

from act.models.asked_losses import AskedLosses
from act.models.looped_model import LoopedModel
from act.slots import LoopPath
from halting.trace import LoopTrace
from training.build import build_cost, build_objective
from training.config.precision import ARITHMETIC
from training.engine.model_inputs import extra_inputs
from training.exits.exit import LEARNED, Exit
from training.objectives.objective import Objective, asking
from training.ponder_penalty import coefficient
from training.resources.section_timer import BACKWARD, BLOCK, LOOP, REST, RULE, SectionTimer
from training.runs.loaded import Run, load_run
from training.tasks.task import Batch


@dataclass(frozen=True)
class TimedCase:
    """How the batch is computed.

    Args:
        training: forward and backward pass in training mode, without the optimizer; else inference.
        exit_policy: how tokens leave.
        path: of the recurrence; None for the run's own.
    """

    training: bool
    exit_policy: Exit = LEARNED
    path: LoopPath | None = None


class Workload:
    """A batch of a run's task on the run's model. To be used within `unchanged`.

    Args:
        run: the run.
        batch: of its task.
    """

    def __init__(self, run: Run, batch: Batch):
        self.run = run
        self.batch = batch.to(run.device)
        self.path: LoopPath = run.model.recurrence.path
        self.cost = build_cost(run.config, run.model.recurrence.rule)
        self.penalty = coefficient(run.config.penalty.value, self.cost)

    @cached_property
    def objective(self) -> Objective:
        """What a training step minimises."""
        objective = build_objective(self.run.config)
        objective.prepare(self.run.task, load_run)
        return objective

    @property
    def tokens(self) -> int:
        """Valid tokens."""
        return int(self.batch.valid.sum())

    def trace(self, case: TimedCase) -> LoopTrace:
        """The record of the loop, computed this case."""
        with self._set(case):
            return self._compute(case)

    def seconds(self, case: TimedCase) -> float:
        """What computing it once takes."""
        with self._set(case):
            before = self._clock()
            self._compute(case)
            return self._clock() - before

    def packs(self, case: TimedCase) -> bool:
        """Whether the loop computes active tokens alone."""
        with self._set(case), torch.set_grad_enabled(case.training):
            return self.run.model.recurrence.packs(self.tokens)

    def shares(self, case: TimedCase, repeats: int) -> dict[str, float]:
        """The part of the time that each of `SECTIONS` takes, over several repetitions."""
        timer = SectionTimer(self._clock)
        with self._set(case):
            self._compute(case)
            recurrence = self.run.model.recurrence
            rule = recurrence.rule
            readout = recurrence.readout
            sections = {
                (recurrence, "forward"): LOOP,
                (recurrence.block, "step"): BLOCK,
                (self, "backward"): BACKWARD,
            }
            sections |= {(rule, name): RULE for name in ("begin", "decide")}
            sections |= {(readout, name): REST for name in ("begin", "add", "finish", "if_stopped")}
            with timer.around(sections):
                for _ in range(repeats):
                    self._fresh()
                    with timer.running():
                        self._compute(case)
        return timer.shares()

    def _ask(self, batch: Batch) -> AskedLosses | None:
        examples = len(batch.tokens)
        return asking(self.objective, self.run.model, self.run.task, examples)(batch)

    def backward(self, loss: Tensor) -> None:
        """The backward pass."""
        loss.backward()

    def _compute(self, case: TimedCase) -> LoopTrace:
        model = self.run.model
        batch = self.batch
        limit = case.exit_policy.limit(self.run)
        extra = extra_inputs(model, batch, self._ask(batch) if case.training else None)
        if not case.training:
            with torch.no_grad():
                return model(batch.tokens, batch.valid, **extra, max_steps=limit).trace
        with ARITHMETIC[self.run.config.precision].around(self.run.device):
            output = model(batch.tokens, batch.valid, **extra, max_steps=limit)
        terms = self.objective(output, batch, self.cost)
        weight = batch.target_weight
        loss = terms.task / torch.where(weight > 0, weight, 1.0).to(terms.task.dtype)
        if self.cost is not None:
            loss = loss + self.penalty * terms.cost / max(1, self.tokens)
        if terms.block is not None:
            loss = loss + terms.block / max(1, self.tokens)
        self.backward(loss)
        return output.trace

    @contextmanager
    def _set(self, case: TimedCase) -> Iterator[None]:
        self.run.model.train(case.training)
        self.run.model.recurrence.path = case.path or self.path
        self._fresh()
        with case.exit_policy.applied_to(self.run):
            yield

    def _fresh(self) -> None:
        """Each repetition draws the same, and has no gradients to add to."""
        torch.manual_seed(0)
        self.run.model.zero_grad(set_to_none=True)

    def _clock(self) -> float:
        if self.run.device.type == "cuda":
            torch.cuda.synchronize(self.run.device)
        return time.perf_counter()


def race(contestants: Sequence[Callable[[], float]], repeats: int) -> list[float]:
    """The median of each one's seconds. They take turns, so that what else the machine does meets
    all alike; a first round, in which memory is laid out, does not count."""
    rounds = [[contestant() for contestant in contestants] for _ in range(repeats + 1)][1:]
    return [median(taken) for taken in zip(*rounds, strict=True)]


@contextmanager
def unchanged(model: LoopedModel) -> Iterator[None]:
    """Afterwards the model is as it was: modes, path, gradients and buffers; and so are torch's
    random draws."""
    modes = {module: module.training for module in model.modules()}
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    recurrence = model.recurrence
    device = model.device
    path: LoopPath = recurrence.path
    try:
        for parameter, _ in gradients:  # a gradient that is there would be added to in place
            parameter.grad = None
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        recurrence.path = path
        for module, mode in modes.items():
            module.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
