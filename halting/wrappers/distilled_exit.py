"""A gate that learns when a hard exit would let a token go."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from halting.costs.teacher_exit import TeacherExit
from halting.errors import UsageError
from halting.exit_threshold import share_reached
from halting.gate import Gate, unit_rms
from halting.readout import FinalState
from halting.rule import HaltingRule
from halting.rules.confidence_exit import ConfidenceExit
from halting.rules.confidence_exit import Measure as Confidence
from halting.rules.convergence_exit import ConvergenceExit, Criterion
from halting.step import Memory, StepDecision, StepView
from halting.trace import LoopTrace
from halting.would_leave import would_leave_step

Teacher = Literal["confidence", "convergence"]
Measure = Literal["max", "gap", "entropy", "state", "cosine", "kl", "argmax"]


class DistilledExit(HaltingRule):
    """z_n = w·norm(s_n) + b, σ(z_n) the chance that a hard exit, its teacher, would have let the
    token go by step n; in training everybody runs to the limit and the teacher is asked at every
    step, in evaluation a token leaves at the first n with σ(z_n) ≥ c, and nobody asks the teacher.

    Meant for a model that is trained already, and frozen (`--start-from RUN --train-only rule`;
    distillation as in Hinton et al. 2015, of the exit instead of the answer). What is gained: a
    teacher that reads the prediction costs the output head for each token and step, the gate one
    dot product.

    Trained by `TeacherExit`, which needs no targets. The gate reads the state without gradient, so
    it never moves the model, frozen or not. norm(s) = s / √(mean s² + 1e-6), as in `ExitGate`. The
    teacher sees everybody at full depth, where in evaluation later tokens attend to those who left.
    The readout is `FinalState`, that of hard exits.

    Causal. The gate gets gradient from `TeacherExit` alone, through aux "leave_logit". In training
    it costs N steps and, under a teacher that reads logits, N calls of the output head for every
    token.

    Args:
        dim: D, width of the state.
        teacher: `ConfidenceExit` or `ConvergenceExit`.
        measure: the teacher's measure or criterion; None for its own default.
        teacher_threshold: at which the teacher lets go; None for its own default.
        bias_init: starting logit; −2 (a chance of 0.12), so that an untrained gate goes on.
        threshold: c, the chance at which a token leaves in evaluation, in (0, 1].

    Raises:
        UsageError: for a teacher that there is not, for what the teacher refuses, and for a
            threshold that is no chance.
    """

    gives_aux = ("leave_logit", "teacher_left", "would_leave")
    exit_threshold = share_reached("threshold")
    default_readout = FinalState
    default_cost = TeacherExit

    def __init__(
        self,
        dim: int,
        teacher: Teacher = "confidence",
        measure: Measure | None = None,
        teacher_threshold: float | None = None,
        bias_init: float = -2.0,
        threshold: float = 0.5,
    ):
        super().__init__()
        if not 0.0 < threshold <= 1.0:
            raise UsageError(
                f"threshold is {threshold}.",
                "It is the chance that the teacher has left at which a token leaves: at 0 all "
                "would leave after the first step, and none is above 1.",
                "Use one in (0, 1], such as 0.5.",
            )
        self.teacher = _teacher(teacher, measure, teacher_threshold)
        self.threshold = threshold
        self.gate = Gate(dim, bias_init)
        self.reads_logits = self.teacher.reads_logits

    def train(self, mode: bool = True) -> "DistilledExit":
        super().train(mode)
        self.reads_logits = mode and self.teacher.reads_logits
        return self

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        if not self.training:
            return None, None
        memory, _ = self.teacher.begin(view)
        return {"teacher": memory, "left": torch.zeros_like(view.step, dtype=torch.bool)}, None

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        logit = self.gate(unit_rms(view.state.detach())).squeeze(-1)
        chance = torch.sigmoid(logit)
        sure = chance >= self.threshold
        left = torch.zeros_like(sure)
        if self.training:
            assert isinstance(memory, dict) and isinstance(memory["left"], Tensor)
            taught, own = self.teacher.decide(view, memory["teacher"])
            left = memory["left"] | taught.halt
            memory = {"teacher": own, "left": left}
        decision = StepDecision(
            mass=torch.zeros_like(view.remaining),
            halt=torch.zeros_like(sure) if self.training else sure,
            score=chance,
            aux={"leave_logit": logit, "teacher_left": left, "would_leave": sure},
        )
        return decision, memory

    def fixed_depth(self, max_steps: int) -> int | None:
        return max_steps if self.training else None

    def ponder(self, trace: LoopTrace) -> Tensor:
        """The first n with σ(z_n) ≥ c: in evaluation where the token left, in training where it
        would have."""
        return would_leave_step(trace) if self.training else super().ponder(trace)


def _teacher(kind: str, measure: Any, threshold: float | None) -> HaltingRule:
    kinds: dict[str, tuple[type[ConfidenceExit] | type[ConvergenceExit], tuple[str, ...]]] = {
        "confidence": (ConfidenceExit, get_args(Confidence)),
        "convergence": (ConvergenceExit, get_args(Criterion)),
    }
    if kind not in kinds:
        raise UsageError(
            f"DistilledExit has no teacher {kind}.",
            f"A teacher is a hard exit without parameters: {' or '.join(kinds)}.",
            "Write one of them.",
        )
    made, measures = kinds[kind]
    if measure is not None and measure not in measures:
        raise UsageError(
            f"The teacher {kind} has no measure {measure}.",
            f"{made.__name__} goes by {', '.join(measures)}.",
            "Write one of them, or another teacher.",
        )
    chosen = () if measure is None else (measure,)
    return made(*chosen, threshold=threshold)
