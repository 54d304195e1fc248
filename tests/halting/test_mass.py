"""The ledger of exit mass, whatever a rule asks for."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halting import StepDecision, halting_dtype, settle

HUGE = st.floats(0, 5, allow_nan=False)


def decision(mass: list[float], halt: list[bool]) -> StepDecision:
    wanted = torch.tensor(mass, dtype=torch.float64)
    return StepDecision(mass=wanted, halt=torch.tensor(halt), score=wanted)


def test_who_stays_spends_what_it_asks_and_who_leaves_spends_all() -> None:
    remaining = torch.tensor([1.0, 0.6, 0.6], dtype=torch.float64)
    wanted = decision([0.25, 0.1, 0.1], [False, False, True])
    mass, left, leaves = settle(wanted, remaining, False)
    assert mass.tolist() == [0.25, 0.1, 0.6]
    assert left.tolist() == [0.75, 0.5, 0.0]
    assert leaves.tolist() == [False, False, True]
    mass, left, leaves = settle(wanted, remaining, True)
    assert mass.tolist() == [1.0, 0.6, 0.6] and left.tolist() == [0.0, 0.0, 0.0] and leaves.all()


def test_a_rule_that_asks_for_more_than_there_is_gets_what_there_is() -> None:
    mass, left, leaves = settle(decision([7.0], [False]), torch.tensor([0.3]), False)
    assert (
        mass.tolist() == torch.tensor([0.3]).tolist()
        and left.tolist() == [0.0]
        and not leaves.any()
    )


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.tuples(HUGE, st.booleans()), min_size=1, max_size=8))
def test_mass_sums_to_one_for_any_rule(steps: list[tuple[float, bool]]) -> None:
    remaining, spent = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for number, (wanted, halt) in enumerate(steps, 1):
        mass, remaining, leaves = settle(
            decision([wanted], [halt]), remaining, number == len(steps)
        )
        assert 0 <= mass <= 1 and remaining >= 0
        spent = spent + mass
        if leaves:
            break
    assert abs(float(spent) - 1) < 1e-12 and remaining == 0


def test_gradient_of_the_remainder_reaches_earlier_masses() -> None:
    first = torch.tensor([0.3], requires_grad=True)
    last = torch.tensor([0.4], requires_grad=True)
    no, yes = torch.tensor([False]), torch.tensor([True])
    _, left, _ = settle(StepDecision(first, no, first), torch.ones(1), False)
    remainder, _, _ = settle(StepDecision(last, yes, last), left, False)
    gradients = torch.autograd.grad(remainder.sum(), [first, last])
    assert gradients[0].item() == -1 and gradients[1].item() == 0


def test_a_narrow_mass_is_settled_in_the_ledgers_dtype() -> None:
    narrow = torch.tensor([0.1], dtype=torch.bfloat16)
    mass, left, _ = settle(
        StepDecision(narrow, torch.tensor([False]), narrow), torch.ones(1), False
    )
    assert mass.dtype == left.dtype == torch.float32


def test_the_ledger_is_float32_or_wider() -> None:
    wide = {
        torch.float16: torch.float32,
        torch.bfloat16: torch.float32,
        torch.float32: torch.float32,
    }
    assert {dtype: halting_dtype(dtype) for dtype in wide} == wide
    assert halting_dtype(torch.float64) == torch.float64
