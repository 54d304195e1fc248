"""The settings that a rule is tried with: what the laws of `HaltingRuleContract` are tested on."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from act.blocks.block import Block
from act.loop.recurrence import Recurrence
from act.testing.probes import (
    PADDINGS,
    Case,
    FixedNoise,
    ProbedRun,
    differentiable,
    gradients_of,
)
from halting.costs.cost import PonderCost
from halting.rule import HaltingRule


class RuleCases:
    """The rule, the loop around it and the inputs; subclassed by `HaltingRuleContract`.

    Attributes:
        dim: D of the block that the rule is tried with; even.
        max_steps: N, the step limit.
        uniform_depth: the rule means all tokens to leave at one step, so that isn't taken for a
            failure to exercise it.
        seeds: of the weights and inputs; seed modulo 3 says which padding (none, on the right,
            holes).
    """

    dim: int = 8
    max_steps: int = 4
    uniform_depth: bool = False
    seeds: tuple[int, ...] = (0, 7, 14)

    def make_rule(self, dim: int) -> HaltingRule:
        """The rule under test, for states of width `dim`."""
        raise NotImplementedError

    def prepare(self, rule: HaltingRule) -> None:
        """Makes tokens leave at widely different steps; all parameters normal, unless
        overridden."""
        for parameter in rule.parameters():
            nn.init.normal_(parameter)

    def make_cost(self, rule: HaltingRule) -> PonderCost | None:
        """The cost that trains the rule."""
        return rule.default_cost() if rule.default_cost is not None else None

    def make_recurrence(self, block: Block, rule: HaltingRule, **options: Any) -> Recurrence:
        """The loop under test."""
        return Recurrence(block, rule, **options)

    def cases(self, *modes: bool) -> Iterator[Case]:
        """Every setting, in training (True) and evaluation (False) unless told which; evaluation,
        which goes through the same loop, is causal in every other one."""
        for seed in self.seeds:
            for causal in (False, True) if self.make_rule(self.dim).causal else (False,):
                for training in modes or (True, False):
                    if (
                        training
                        or modes
                        or causal == (seed % 2 == 0 and self.make_rule(self.dim).causal)
                    ):
                        yield Case(seed, causal, training, PADDINGS[seed % len(PADDINGS)])

    def rule(self, case: Case) -> HaltingRule:
        """The rule with the weights of a case, in float64."""
        torch.manual_seed(case.seed)
        rule = self.make_rule(self.dim)
        with torch.no_grad():
            self.prepare(rule)
        return rule.double().train(case.training)

    def recurrence(
        self, case: Case, rule: HaltingRule | None = None, kind: type[Block] = Block, **options: Any
    ) -> Recurrence:
        """The loop with the weights of a case, in float64, its draws fixed."""
        rule = rule or self.rule(case)
        torch.manual_seed(100 + case.seed)
        block = kind(
            self.dim,
            2,
            num_kv_heads=1,
            num_layers=2,
            causal=case.causal,
            injection="concat",
            step_signal="sinusoidal",
        ).double()
        head = torch.randn(11, self.dim, dtype=torch.float64)
        loop = self.make_recurrence(block, rule, **{"max_steps": self.max_steps, **options}).train(
            case.training
        )
        loop.draw = FixedNoise()
        if rule.reads_logits:
            loop.head = lambda state: state @ head.to(state.dtype).T
        return loop

    def run(
        self, loop: Recurrence, case: Case, x: Tensor | None = None, gradients: bool = False
    ) -> ProbedRun:
        """Runs it; with gradients of everything that it returned, where asked for and in
        training."""
        x = case.input(self.dim) if x is None else x
        with torch.set_grad_enabled(case.training):
            output, trace = loop(x, case.valid, record_lens=True)
        tensors = differentiable(output, trace)
        wanted = {"input": x, **dict(loop.named_parameters())}
        return ProbedRun(
            output,
            trace,
            tensors,
            gradients_of(tensors, wanted) if gradients and case.training else {},
        )
