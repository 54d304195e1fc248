"""The rules of the core and their wrappers, asked by hand."""

from abc import abstractmethod

import pytest
import torch
from torch import Tensor

from act import Block, Recurrence
from halting import (
    FixedSteps,
    Gate,
    GravesACT,
    HaltingRule,
    MaxSteps,
    Memory,
    MinSteps,
    PerSequence,
    StepDecision,
    StepsPlusRemainder,
    StepView,
    UsageError,
    WeightedMean,
    keep_rows,
)


def view(
    state: Tensor,
    step: int = 1,
    remaining: list[float] | None = None,
    row: list[int] | None = None,
    uniform: float = 0.5,
) -> StepView:
    count = len(state)
    held = torch.ones(count) if remaining is None else torch.tensor(remaining)
    rows = torch.zeros(count, dtype=torch.int64) if row is None else torch.tensor(row)
    return StepView(
        step=torch.full((count,), step),
        max_steps=9,
        entering=state,
        state=state,
        remaining=held,
        row=rows,
        position=torch.arange(count),
        logits=lambda: state,
        uniform=lambda: torch.full((count,), uniform),
    )


def act_of(*hazards: float) -> tuple[GravesACT, Tensor]:
    """A gate that reads one number, and states on which it says these hazards."""
    rule = GravesACT(1, bias_init=0.0)
    with torch.no_grad():
        rule.gate.weight.fill_(1.0)
    return rule, torch.logit(torch.tensor(hazards)).unsqueeze(-1)


class Above(HaltingRule):
    """A hard exit that counts in its memory how often it was asked."""

    default_readout = WeightedMean

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        return {"asked": torch.zeros_like(view.step)}, 2 * torch.ones(len(view.state))

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, dict) and isinstance(memory["asked"], Tensor)
        score = view.state.sum(-1)
        decision = StepDecision(
            mass=torch.zeros_like(score), halt=score > 0, score=score, aux={"twice": 2 * score}
        )
        return decision, {"asked": memory["asked"] + 1}


class Spread(Above):
    """The same, of a kind that spreads its mass."""

    spreads_mass = True

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = super().decide(view, memory)
        return StepDecision(
            0.5 + 0 * decision.score, decision.halt, decision.score, view.uniform(), decision.aux
        ), memory


def test_graves_act_leaves_when_epsilon_or_less_would_be_left() -> None:
    rule, state = act_of(0.3, 0.6, 0.595, 0.58, 0.9)
    decision, memory = rule.decide(view(state, remaining=[1.0, 0.6, 0.6, 0.6, 0.6]), None)
    assert decision.halt.tolist() == [False, True, True, False, True] and memory is None
    torch.testing.assert_close(decision.score, torch.tensor([0.3, 0.6, 0.595, 0.58, 0.9]))
    assert torch.equal(decision.mass, decision.score)


def test_graves_act_starts_at_its_bias_whatever_the_state() -> None:
    decision, _ = GravesACT(4, bias_init=-3.0).decide(view(100 * torch.randn(5, 4)), None)
    torch.testing.assert_close(decision.mass, torch.full((5,), 0.0474258732))


def test_graves_act_names_what_trains_it() -> None:
    assert GravesACT.spreads_mass and GravesACT.causal
    assert (
        GravesACT.default_readout is WeightedMean and GravesACT.default_cost is StepsPlusRemainder
    )


def test_the_gate_is_computed_wide() -> None:
    gate = Gate(64, bias_init=0.5, num_logits=3)
    torch.nn.init.normal_(gate.weight)
    state = torch.randn(5, 64).bfloat16()
    exact = state.double() @ gate.weight.double().T + gate.bias.double()
    with torch.autocast("cpu", torch.bfloat16):
        logits = gate(state)
    assert logits.dtype == torch.float32 and (logits.double() - exact).abs().max() < 1e-5
    narrow = gate.bfloat16()
    exact = state.double() @ narrow.weight.double().T + narrow.bias.double()
    assert (
        narrow(state).dtype == torch.float32 and (narrow(state).double() - exact).abs().max() < 1e-5
    )
    assert gate.double()(state).dtype == torch.float64


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, [True] * 3), (2, [False, True, True]), (None, [False] * 3)]
)
def test_fixed_steps(steps: int | None, expected: list[bool]) -> None:
    said = [FixedSteps(steps).decide(view(torch.zeros(2, 1), step), None)[0] for step in (1, 2, 3)]
    assert [bool(decision.halt.all()) for decision in said] == expected
    assert all((decision.mass == 0).all() for decision in said)


def test_min_steps_holds_back_halting_and_mass() -> None:
    rule, state = act_of(0.995, 0.2)
    early, _ = MinSteps(rule, 3).decide(view(state, step=2), None)
    assert not early.halt.any() and (early.mass == 0).all() and (early.score > 0).all()
    due, _ = MinSteps(rule, 3).decide(view(state, step=3), None)
    assert due.halt.tolist() == [True, False]
    torch.testing.assert_close(due.mass, torch.tensor([0.995, 0.2]))


def test_max_steps_lets_everyone_go() -> None:
    rule, state = act_of(0.995, 0.2)
    assert MaxSteps(rule, 3).decide(view(state, step=2), None)[0].halt.tolist() == [True, False]
    assert MaxSteps(rule, 3).decide(view(state, step=3), None)[0].halt.tolist() == [True, True]


@pytest.mark.parametrize(
    "wrap", [lambda rule: MinSteps(rule, 2), lambda rule: MaxSteps(rule, 2), PerSequence]
)
def test_a_wrapper_passes_on_memory_gain_and_what_the_rule_says_of_itself(
    wrap: type[PerSequence],
) -> None:
    rule = wrap(Above())
    state = torch.tensor([[1.0], [-1.0]])
    memory, gain = rule.begin(view(state))
    assert gain is not None and gain.tolist() == [2, 2]
    for _ in range(2):
        _, memory = rule.decide(view(state), memory)
    assert (
        isinstance(memory, dict)
        and isinstance(memory["asked"], Tensor)
        and memory["asked"].tolist() == [2, 2]
    )
    assert (
        rule.default_readout is WeightedMean and rule.default_cost is None and not rule.spreads_mass
    )
    assert not rule.causal if isinstance(rule, PerSequence) else rule.causal


def test_a_hard_exit_per_sequence_waits_for_all_of_its_tokens() -> None:
    state = torch.tensor([[1.0], [1.0], [1.0], [-1.0], [-1.0]])
    rule = PerSequence(Above())
    memory, _ = rule.begin(view(state))
    decision, _ = rule.decide(view(state, row=[0, 0, 3, 3, 5]), memory)
    assert decision.halt.tolist() == [True, True, False, False, False]
    assert decision.score.tolist() == [1, 1, 1, -1, -1]


def test_a_spreading_rule_per_sequence_sees_the_mean_token() -> None:
    state = torch.tensor([[5.0], [-3.0], [2.0], [-1.0], [-3.0]])
    rule = PerSequence(Spread())
    shown = view(state, row=[0, 0, 2, 2, 2], uniform=0.25)
    memory, gain = rule.begin(shown)
    decision, memory = rule.decide(shown, memory)
    torch.testing.assert_close(decision.score, torch.tensor([1.0, 1.0, -2 / 3, -2 / 3, -2 / 3]))
    assert decision.halt.tolist() == [True, True, False, False, False]
    assert decision.gain is not None and decision.gain.tolist() == [0.25] * 5
    torch.testing.assert_close(decision.aux["twice"], 2 * decision.score)
    assert gain is not None and gain.tolist() == [2] * 5
    assert (
        isinstance(memory, dict)
        and isinstance(memory["asked"], Tensor)
        and memory["asked"].tolist() == [1] * 5
    )


def test_the_mean_of_narrow_states_is_taken_wide() -> None:
    """Of a thousand tokens in bfloat16, where a running sum would stop growing at 256."""
    rule = PerSequence(Spread())
    shown = view(torch.ones(1000, 1, dtype=torch.bfloat16))
    decision, _ = rule.decide(shown, rule.begin(shown)[0])
    assert decision.score.dtype == torch.float32 and (decision.score == 1).all()


def test_per_sequence_refuses_rules_of_spread_logits() -> None:
    class Both(Spread):
        reads_logits = True

    with pytest.raises(UsageError, match="PerSequence cannot wrap Both"):
        PerSequence(Both())


class Undecided(HaltingRule):
    """Between the base class and a rule: abstract, and allowed to be."""

    default_readout = WeightedMean

    @abstractmethod
    def threshold(self) -> float:
        """Where it leaves."""


class HalfWritten(Undecided):
    def threshold(self) -> float:
        return 0.5


class Complete(HalfWritten):
    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        score = view.state.sum(-1)
        return StepDecision(torch.zeros_like(score), score > self.threshold(), score), memory


def test_a_rule_that_does_not_decide_cannot_be_built() -> None:
    with pytest.raises(
        UsageError, match="HalfWritten is no complete halting rule: it has no decide"
    ):
        HalfWritten()
    with pytest.raises(UsageError, match="Undecided .*no decide and no threshold"):
        Undecided()
    with pytest.raises(UsageError, match="HaltingRule is no complete halting rule"):
        HaltingRule()
    assert Complete().decide(view(torch.ones(2, 1)), None)[0].halt.all()


def test_keep_rows_keeps_the_shape_of_a_memory() -> None:
    memory = {"a": torch.arange(3), "b": (None, torch.eye(3))}
    kept = keep_rows(memory, torch.tensor([True, False, True]))
    assert kept["a"].tolist() == [0, 2] and kept["b"][0] is None and kept["b"][1].shape == (2, 3)
    assert (
        keep_rows(memory, torch.tensor([1]))["a"].tolist() == [1]
        and keep_rows(None, slice(None)) is None
    )


def test_ponder_is_executed_steps_unless_a_rule_says_otherwise() -> None:
    _, trace = Recurrence(Block(4, 1), FixedSteps(2), max_steps=3)(torch.randn(1, 2, 4))
    assert FixedSteps(2).ponder(trace).tolist() == [[2.0, 2.0]]


def test_a_usage_error_has_three_parts() -> None:
    error = UsageError("a.", "b.", "c.")
    assert (error.what, error.why, error.write) == ("a.", "b.", "c.") and str(error) == "a. b. c."
    assert isinstance(error, ValueError)
