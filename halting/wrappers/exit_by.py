"""A hard exit on a model that was trained under another rule."""

from dataclasses import replace

from torch import Tensor

from halting.errors import UsageError
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.trace import LoopTrace
from halting.wrappers.wrapper import RuleWrapper, trained_mass


class ExitBy(RuleWrapper):
    """A hard exit decides who leaves, on a model that was trained under another rule: a post-hoc
    exit.

    Mass is spent as the inner rule spends it, all that is left where it would have let the token go
    (a hard exit, which is overruled, spends none); the token itself is computed until `exit_rule`
    says so, and that step takes the rest. With the rule's own readout, the output is what the model
    would have said *had it stopped* at that step. The ponder is the executed steps, and the score
    is the exit's.

    Args:
        rule: the rule that the model was trained with.
        exit_rule: the hard exit that decides.

    Raises:
        UsageError: for an exit that spreads mass: it would decide by mass that it has not spent.
    """

    def __init__(self, rule: HaltingRule, exit_rule: HaltingRule):
        super().__init__(rule)
        if exit_rule.spreads_mass:
            raise UsageError(
                f"{type(exit_rule).__name__} cannot be the exit of a model trained with "
                f"{type(rule).__name__}.",
                "It decides by the mass that it has spent itself, and here the trained rule spends "
                "the mass.",
                "Use a hard exit, such as ConvergenceExit or ConfidenceExit.",
            )
        self.exit_rule = exit_rule
        self.causal = rule.causal and exit_rule.causal
        self.reads_logits = rule.reads_logits or exit_rule.reads_logits
        self.by_sequence = exit_rule.by_sequence

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        memory, gain = self.rule.begin(view)
        return {"rule": memory, "exit_rule": self.exit_rule.begin(view)[0]}, gain

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, dict)
        decision, own = self.rule.decide(view, memory["rule"])
        seen = replace(view, logits=lambda: view.logits(decision.aux)) if decision.aux else view
        left, others = self.exit_rule.decide(seen, memory["exit_rule"])
        mass = trained_mass(self, decision, view)
        return replace(decision, mass=mass, halt=left.halt, score=left.score), {
            "rule": own,
            "exit_rule": others,
        }

    def fixed_depth(self, max_steps: int) -> int | None:
        return self.exit_rule.fixed_depth(max_steps)

    def ponder(self, trace: LoopTrace) -> Tensor:
        return HaltingRule.ponder(self, trace)
