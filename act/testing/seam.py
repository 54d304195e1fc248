"""What the seam asks of a halting rule, beside the six laws."""

import pytest
import torch

from act.testing.cases import RuleCases
from act.testing.probes import (
    memory_tensors,
    random_outcomes,
    view_alone,
)


class RuleSeamTests(RuleCases):
    """Tests of what a rule hands to the loop; subclassed by `HaltingRuleContract`."""

    def test_decisions_have_one_row_a_token(self) -> None:
        for case in self.cases():
            for count in (0, 1, 7):
                rule = self.rule(case)
                view = view_alone(
                    torch.randn(count, self.dim).double(),
                    torch.randn(count, 11).double(),
                    1,
                    self.max_steps,
                )
                memory, gain = rule.begin(view)
                assert gain is None or gain.shape == (count,)
                decision, memory = rule.decide(view, memory)
                assert (
                    decision.mass.shape == decision.score.shape == decision.halt.shape == (count,)
                )
                assert decision.halt.dtype == torch.bool
                assert decision.aux.keys() == set(rule.gives_aux), f"gives_aux is {rule.gives_aux}"
                assert decision.gain is None or decision.gain.shape == (count,)
                for name, value in (
                    *decision.aux.items(),
                    *((f"memory {i}", m) for i, m in enumerate(memory_tensors(memory))),
                ):
                    assert value.shape[:1] == (count,), (
                        f"{name} has {value.shape[0]} rows for {count} tokens"
                    )
                for value in (decision.mass, decision.score):
                    assert value.isfinite().all(), "mass and score must be finite"

    def test_the_state_dict_holds_all_that_decides(self) -> None:
        for case in self.cases(False):
            loop = self.recurrence(case)
            torch.manual_seed(1234)
            fresh = self.make_rule(self.dim).double().eval()
            fresh.load_state_dict(loop.rule.state_dict())
            again = self.run(self.recurrence(case, fresh), case)
            run = self.run(loop, case)
            assert torch.equal(run.trace.steps, again.trace.steps), f"steps after loading: {case}"
            assert torch.equal(run.trace.mass, again.trace.mass), f"mass after loading: {case}"

    def test_the_cost_trains_the_gate_and_spares_padding(self) -> None:
        """A cost on the bare count of steps, seen in public code, trains nothing."""
        if self.make_cost(self.make_rule(self.dim)) is None:
            pytest.skip("the rule has no cost")
        for case in self.cases(True):
            loop = self.recurrence(case)
            cost = self.make_cost(loop.rule)
            assert cost is not None
            _, trace = loop(case.input(self.dim), case.valid)
            value = cost(trace, random_outcomes(trace) if cost.needs_outcomes else None)
            assert value.shape == trace.steps.shape and value.isfinite().all(), f"cost {value}"
            assert (value[~trace.valid] == 0).all(), "padding costs something"
            found = torch.autograd.grad(
                value.sum(), [p for p in loop.rule.parameters() if p.requires_grad]
            )
            assert any((g != 0).any() for g in found) or trace.steps.max() == 1, (
                "the cost's gradient misses the gate"
            )
