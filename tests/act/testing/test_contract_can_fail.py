"""Each law broken on purpose, in the loop or in a rule: the contract must say so."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import act.caches.cache
import act.loop.recurrence
import act.loop.zero_gradient
import act.slots
import halting.gate
from act.blocks.block import Block
from act.caches.cache import FunctionalCache
from act.caches.rewinding import _Layer as Rows
from act.loop.backprop import Backprop
from act.loop.recurrence import Recurrence
from act.slots import Slots, dense_slots
from act.testing import TOLERANCE, HaltingRuleContract, assert_close
from halting import (
    ExpectedSteps,
    FixedSteps,
    GravesACT,
    HaltingRule,
    PerSequence,
    PonderCost,
    StepsPlusRemainder,
    UsageError,
)
from halting.costs.cost import StepOutcomes
from halting.mass import halting_dtype, settle
from halting.step import Memory, StepDecision, StepView, keep_rows
from halting.trace import LoopTrace

written, slots_of = act.caches.cache._written, Slots.of
write, collect = Rows.write, Rows.collect


class Contract(HaltingRuleContract):
    """The contract of any rule, on one pattern of padding."""

    seeds = (7,)

    def __init__(self, make: Callable[[int], HaltingRule] = GravesACT):
        self.make = make

    def make_rule(self, dim: int) -> HaltingRule:
        return self.make(dim)


def spend_nothing_at_the_end(
    decision: StepDecision, remaining: Tensor, last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    mass, left, leaves = settle(decision, remaining, last)
    return torch.where(leaves, torch.minimum(decision.mass, mass), mass), left, leaves


def compute_everyone(tokens: Slots) -> Slots:
    """The published Universal Transformer: halted tokens go on being computed."""
    slots = dense_slots(tokens)
    return Slots(
        slots.index, slots.row, slots.position, slots.step, None, slots.batch, slots.length
    )


class DenseByDefault(Contract):
    def make_recurrence(self, block: Block, rule: HaltingRule, **options: Any) -> Recurrence:
        return Recurrence(block, rule, **{"path": "dense", **options})


def forget_the_halted(old: Tensor | None, new: Tensor, slots: Slots) -> Tensor:
    """Keys and values of who is not computed now become zeros."""
    return written(None, new, slots)


def detach_the_halted(old: Tensor | None, new: Tensor, slots: Slots) -> Tensor:
    return written(None if old is None else old.detach(), new, slots)


def forget_the_halted_when_packed(
    layer: Rows, keys: Tensor, values: Tensor, slots: Slots, node: Any
) -> Any:
    rows = write(layer, keys, values, slots, node)
    for each, new in zip(rows, (keys, values), strict=True):
        each.zero_().index_copy_(0, slots.index, new)
    return rows


def never_rewind(layer: Rows, step: int) -> None:
    """Gradients are computed with what the last step left."""


def drop_what_is_frozen(layer: Rows, keys: Tensor, values: Tensor, slots: Slots) -> Any:
    """Steps after the one at which a token left hand nothing back to it."""
    mine, before = collect(layer, keys, values, slots)
    layer.gradients = None
    return mine, before


def let_everyone_look_at_padding(
    loop: Recurrence, slots: Slots, valid: Tensor | None, packs: bool
) -> FunctionalCache:
    return FunctionalCache(None)


def count_padding(valid: Tensor, positions: Tensor | None = None) -> Slots:
    return slots_of(torch.ones_like(valid), positions)


def untied(tensor: Tensor, anchors: Any) -> Tensor:
    return tensor


def narrow(dtype: torch.dtype) -> torch.dtype:
    return dtype


def detach_when_packed(values: Tensor, tokens: Slots, slots: Slots) -> Tensor:
    return values.detach() if slots is tokens else values.index_select(0, tokens.index)


def frozen_states_drift(values: Any, rows: Any) -> Any:
    """Who leaves puts out twice what it should when others stay."""
    kept = keep_rows(values, rows)
    return 2 * kept if isinstance(values, Tensor) and isinstance(rows, Tensor) else kept


LAW_1 = "test_law_1_mass_sums_to_one"
LAW_2 = "test_law_2_a_halted_token_is_frozen"
LAW_2_KEYS = "test_law_2_halted_keys_and_values_stay"
LAW_3 = "test_law_3_packed_equals_dense"
LAW_4_ALONE = "test_law_4_a_sequence_alone_equals_itself_in_a_batch"
LAW_4_NAN = "test_law_4_nan_in_padding_and_idle_slots_changes_no_bit"
LAW_4_SPENDS = "test_law_4_padding_spends_nothing"
LAW_5 = "test_law_5_halting_arithmetic_is_float32_or_wider"
LAW_5_DECIDES = "test_law_5_narrow_states_decide_like_wide_ones"
LAW_6 = "test_law_6_every_backward_reaches_everything"
CAUSAL = "test_a_causal_rule_never_looks_ahead_and_any_other_is_refused"
ROWS = "test_decisions_have_one_row_a_token"
DIFFERENT = "test_tokens_leave_at_different_steps"
STATE_DICT = "test_the_state_dict_holds_all_that_decides"
COST = "test_the_cost_trains_the_gate_and_spares_padding"
ALL_LAWS = [
    LAW_1,
    LAW_2,
    LAW_2_KEYS,
    LAW_4_ALONE,
    LAW_4_NAN,
    LAW_4_SPENDS,
    LAW_5,
    LAW_5_DECIDES,
    LAW_6,
]


def hold(contract: HaltingRuleContract, law: str) -> None:
    getattr(contract, law)(*([Backprop()] if law == LAW_3 else []))


@pytest.mark.parametrize("law", [*ALL_LAWS, LAW_3, CAUSAL, ROWS, DIFFERENT, STATE_DICT, COST])
def test_the_loop_as_it_is_passes(law: str) -> None:
    hold(Contract(), law)


@pytest.mark.parametrize(
    ("law", "module", "name", "mutant"),
    [
        (LAW_1, act.loop.recurrence, "settle", spend_nothing_at_the_end),
        (LAW_2, act.loop.recurrence, "keep_rows", frozen_states_drift),
        (LAW_2_KEYS, act.loop.recurrence, "settle", spend_nothing_at_the_end),
        (LAW_2_KEYS, Rows, "write", forget_the_halted_when_packed),
        (LAW_2_KEYS, Rows, "wind_to", never_rewind),
        (LAW_2_KEYS, Rows, "collect", drop_what_is_frozen),
        (LAW_3, act.caches.cache, "_written", forget_the_halted),
        (LAW_3, act.caches.cache, "_written", detach_the_halted),
        (LAW_3, act.loop.recurrence, "dense_slots", compute_everyone),
        (LAW_3, act.loop.recurrence, "pick", detach_when_packed),
        (LAW_4_ALONE, Recurrence, "_fresh_cache", let_everyone_look_at_padding),
        (LAW_4_NAN, Slots, "blank_idle", lambda slots, values: values),
        (LAW_4_SPENDS, Slots, "of", staticmethod(count_padding)),
        (LAW_5, act.loop.recurrence, "halting_dtype", narrow),
        (LAW_5, halting.gate, "halting_dtype", narrow),
        (LAW_5_DECIDES, halting.gate, "halting_dtype", narrow),
        (LAW_6, act.loop.zero_gradient, "attach_zero_gradient", untied),
    ],
)
def test_a_broken_loop_is_caught(
    monkeypatch: pytest.MonkeyPatch, law: str, module: ModuleType | type, name: str, mutant: Any
) -> None:
    monkeypatch.setattr(module, name, mutant)
    with pytest.raises((AssertionError, UsageError)):  # a narrow mass the loop itself refuses
        hold(Contract(), law)


def test_halted_tokens_that_go_on_being_computed_are_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(act.loop.recurrence, "dense_slots", compute_everyone)
    with pytest.raises(AssertionError):
        hold(DenseByDefault(), LAW_2_KEYS)


class LooksAhead(PerSequence):
    """Says that it is causal, and isn't."""

    def __init__(self, dim: int):
        super().__init__(GravesACT(dim))
        self.causal = True


class HalfPrecision(GravesACT):
    """Decides in the dtype of the state."""

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        weight, bias = self.gate.weight.to(view.state.dtype), self.gate.bias.to(view.state.dtype)
        hazard = torch.sigmoid(nn.functional.linear(view.state, weight, bias)).squeeze(-1)
        return StepDecision(
            mass=hazard, halt=view.remaining - hazard <= self.epsilon, score=hazard
        ), None


class Averaged(GravesACT):
    """Keeps one number for all of its tokens."""

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = super().decide(view, memory)
        return replace(decision, aux={"mean": decision.mass.sum(0, keepdim=True)}), memory


class LosesItsScale(GravesACT):
    """Draws a number when it is built and saves it nowhere."""

    def __init__(self, dim: int):
        super().__init__(dim)
        self.scale = float(torch.rand(()))

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        return super().decide(replace(view, state=self.scale * view.state), memory)


class CountOfSteps(PonderCost):
    """A bare integer count, as in two public repositories: no gradient."""

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        return trace.steps.to(trace.mass.dtype) + 0 * trace.mass.sum(-1)


class PaysForPadding(StepsPlusRemainder):
    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        return super().__call__(trace) + 1


class ExpensiveContract(Contract):
    def __init__(self, cost: PonderCost):
        super().__init__()
        self.cost = cost

    def make_cost(self, rule: HaltingRule) -> PonderCost:
        return self.cost


@pytest.mark.parametrize(
    ("law", "contract"),
    [
        (CAUSAL, Contract(LooksAhead)),
        (LAW_2_KEYS, Contract(LooksAhead)),
        (LAW_5, Contract(HalfPrecision)),
        (LAW_5_DECIDES, Contract(HalfPrecision)),
        (ROWS, Contract(Averaged)),
        (STATE_DICT, Contract(LosesItsScale)),
        (DIFFERENT, Contract(lambda dim: FixedSteps(2))),
        (COST, ExpensiveContract(CountOfSteps())),
        (COST, ExpensiveContract(PaysForPadding())),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_rule_is_caught(law: str, contract: HaltingRuleContract) -> None:
    with pytest.raises((AssertionError, UsageError)):
        hold(contract, law)


def test_another_cost_passes() -> None:
    hold(ExpensiveContract(ExpectedSteps()), COST)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_assert_close_sees_a_difference_of_twice_the_tolerance(dtype: torch.dtype) -> None:
    expected = torch.zeros(3, dtype=dtype)
    assert_close(expected + TOLERANCE[dtype] / 2, expected, "half the tolerance")
    for wrong in (
        expected + 2 * TOLERANCE[dtype],
        expected + torch.nan,
        torch.zeros(4, dtype=dtype),
    ):
        with pytest.raises(AssertionError):
            assert_close(wrong, expected, "wrong")


def test_the_ledger_is_never_narrow() -> None:
    assert (
        halting_dtype(torch.bfloat16) == torch.float32
        and halting_dtype(torch.float64) == torch.float64
    )
