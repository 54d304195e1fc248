"""What a rule returns that the loop could not go by is refused in three parts, with the rule's
name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import small

from act import Block, PlainBlock, Recurrence
from act.loop.rule_checks import check_decided, check_finite, check_width
from act.testing.probes import view_alone
from halting import (
    ConvergenceExit,
    FixedSteps,
    GravesACT,
    HaltingRule,
    MinSteps,
    StickBreaking,
    UsageError,
)
from halting.step import Memory, StepDecision, StepView
from training.build import build_all

DIM = 8


def changed(decision: StepDecision, **fields: Any) -> StepDecision:
    """Also of what no type checker lets through."""
    made = replace(decision)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


class Misfit(GravesACT):
    """Decides as GravesACT does, and then changes what it returns, from some step on."""

    def __init__(self, dim: int = 16, change: Callable[..., Any] | None = None, late: bool = False):
        super().__init__(dim, bias_init=-0.5)
        torch.nn.init.normal_(self.gate.weight)
        self.change = change or (lambda decision, memory: (decision, memory))
        self.late = late

    def decide(self, view: StepView, memory: Memory) -> Any:
        decision, memory = super().decide(view, memory)
        if self.late and int(view.step.max()) == 1:
            return decision, memory
        return self.change(decision, memory)


CHANGES: list[tuple[str, Callable[..., Any], str]] = [
    ("nothing", lambda decision, memory: None, r"decide\(.*\) returns None"),
    ("no memory", lambda decision, memory: decision, "returns a StepDecision"),
    (
        "tuple",
        lambda decision, memory: ((decision.mass, decision.halt), None),
        "decides by a tuple",
    ),
    ("three", lambda decision, memory: (decision, memory, 1), "returns a tuple of 3"),
    (
        "wide mass",
        lambda decision, memory: (changed(decision, mass=decision.mass[:, None]), None),
        r"gives mass as float32 \[\d+, 1\].*floats \[\d+\]",
    ),
    (
        "one mass",
        lambda decision, memory: (changed(decision, mass=decision.mass.mean()), None),
        r"gives mass as float32 \[\]",
    ),
    (
        "short halt",
        lambda decision, memory: (changed(decision, halt=decision.halt[:1]), None),
        r"gives halt as bool \[1\].*bool tensor \[\d+\]",
    ),
]
EVERY_STEP = [
    (
        "float halt",
        lambda decision, memory: (changed(decision, halt=decision.mass), None),
        r"gives halt as float32 \[12\].*bool tensor \[12\]",
    ),
    (
        "number",
        lambda decision, memory: (changed(decision, mass=0.5), None),
        "gives mass as 0.5",
    ),
    (
        "narrow mass",
        lambda decision, memory: (changed(decision, mass=decision.mass.bfloat16()), None),
        "gives mass in bfloat16.*float32 or wider.*Widen it",
    ),
    (
        "NaN",
        lambda decision, memory: (changed(decision, mass=decision.mass * torch.nan), None),
        "gives a mass of nan",
    ),
    (
        "negative",
        lambda decision, memory: (changed(decision, mass=decision.mass - 2), None),
        "gives a mass of -1",
    ),
    (
        "score",
        lambda decision, memory: (changed(decision, score=None), None),
        "gives score as None",
    ),
    (
        "gain",
        lambda decision, memory: (changed(decision, gain=decision.mass[:2]), None),
        r"gives gain as float32 \[2\]",
    ),
    (
        "aux",
        lambda decision, memory: (changed(decision, aux={"depth": decision.mass[:2]}), None),
        r"gives aux depth as float32 \[2\]",
    ),
    (
        "memory",
        lambda decision, memory: (decision, {"seen": (torch.zeros(3), None)}),
        r"remembers float32 \[3\].*There are 12 tokens",
    ),
    ("list", lambda decision, memory: (decision, [1]), "remembers a list.*dicts and tuples"),
    ("fails", lambda decision, memory: decision.mass + torch.zeros(5), "Misfit fails.*RuntimeError"),
]  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("change", "words"), [case[1:] for case in CHANGES + EVERY_STEP])
def test_a_decision_that_is_none_is_refused(
    change: Callable[..., Any], words: str, training: bool
) -> None:
    loop = Recurrence(Block(DIM, 2), Misfit(DIM, change), max_steps=3).train(training)
    with pytest.raises(UsageError, match=words) as refusal:
        loop(torch.randn(3, 4, DIM))
    assert "Misfit" in refusal.value.what and refusal.value.why and refusal.value.write


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in CHANGES])
def test_one_of_a_later_step_is_refused_too(change: Callable[..., Any], words: str) -> None:
    torch.manual_seed(0)
    rule = MinSteps(Misfit(DIM, change, late=True), 1) if "short" in words else None
    loop = Recurrence(Block(DIM, 2), rule or Misfit(DIM, change, late=True), max_steps=5)
    with pytest.raises(UsageError, match=words):
        loop(torch.randn(3, 4, DIM))
    with pytest.raises(UsageError, match=words):  # in the second run it is known, and still asked
        loop(torch.randn(3, 4, DIM))


class Beginning(GravesACT):
    given: Any = None

    def begin(self, view: StepView) -> Any:
        return self.given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, r"begin\(self, view\) returns None"),
        ((None, torch.zeros(2)), r"gives gain as float32 \[2\]"),
        (({"a": torch.zeros(5)}, None), r"remembers float32 \[5\]"),
    ],
)
def test_what_it_says_before_the_first_step_is_looked_at(given: Any, words: str) -> None:
    rule = Beginning(DIM)
    rule.given = given
    with pytest.raises(UsageError, match=words):
        Recurrence(Block(DIM, 2), rule, max_steps=2)(torch.randn(3, 4, DIM))


class Promising(GravesACT):
    gives_aux = ("confidence",)


def test_an_aux_that_was_promised_has_to_come() -> None:
    with pytest.raises(UsageError, match="gives no aux confidence.*gives_aux"):
        Recurrence(Block(DIM, 2), Promising(DIM), max_steps=2)(torch.randn(3, 4, DIM))


def test_numbers_are_not_asked_for_again() -> None:
    """NaN in states is divergence, not the rule's fault; and no device is waited for at each run."""
    rule = Misfit(DIM)
    loop = Recurrence(Block(DIM, 2), rule, max_steps=3)
    loop(torch.full((3, 4, DIM), torch.nan))
    rule.change = lambda decision, memory: (changed(decision, mass=decision.mass * torch.nan), None)
    loop(torch.randn(3, 4, DIM))
    view = view_alone(torch.randn(3, DIM), torch.randn(3, 2), 1, 3)
    decision, _ = GravesACT(DIM).decide(view, None)
    check_finite(rule, decision, view)
    with pytest.raises(UsageError, match="a mass of nan"):
        check_finite(rule, changed(decision, mass=decision.mass * torch.nan), view)
    with pytest.raises(UsageError, match="Misfit.decide"):  # whoever is around it
        check_decided(MinSteps(rule, 2), None, view)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_rule_of_another_width_is_refused(wrapped: bool) -> None:
    rule: HaltingRule = GravesACT(4)
    rule = MinSteps(rule, 2) if wrapped else rule
    words = r"GravesACT reads states of width 4.*have width 8.*GravesACT\(dim=8\)"
    with pytest.raises(UsageError, match=words):
        Recurrence(Block(DIM, 2), rule, max_steps=3)
    loop = Recurrence(Block(DIM, 2), GravesACT(DIM), max_steps=3)
    with pytest.raises(UsageError, match=words):
        loop.use(rule)
    loop = Recurrence(PlainBlock(torch.nn.Linear(DIM, DIM)), rule, max_steps=3)
    with pytest.raises(UsageError, match=words):
        loop(torch.randn(2, 3, DIM))
    with pytest.raises(UsageError, match="StickBreaking fails at its first step.*dim=8"):
        Recurrence(Block(DIM, 2), StickBreaking(4), max_steps=3)(torch.randn(2, 3, DIM))
    for fitting in (FixedSteps(), ConvergenceExit("state"), GravesACT(DIM)):
        check_width(fitting, DIM)
    check_width(GravesACT(4), None)


def test_a_rule_of_ones_own_is_looked_at_before_a_run_is_written(tmp_path: Path) -> None:
    def config(cls: type) -> Any:
        return small(tmp_path, halting={"kind": f"{cls.__module__}:{cls.__name__}"})

    build_all(config(Misfit))
    for cls, words in (
        (LateMisfit, r"LateMisfit.decide\(.*\) returns None"),
        (Promising, "gives no aux"),
        (Forgetful, "halting rule Forgetful fails: KeyError"),
    ):
        with pytest.raises(UsageError, match=words):
            build_all(config(cls))
    assert not list(tmp_path.iterdir())


class LateMisfit(Misfit):
    def __init__(self, dim: int):
        super().__init__(dim, lambda decision, memory: None, late=True)


class Forgetful(Misfit):
    """Fails at a later step, and only in evaluation."""

    def __init__(self, dim: int):
        super().__init__(dim)

    def decide(self, view: StepView, memory: Memory) -> Any:
        if not self.training and int(view.step.max()) > 1:
            raise KeyError("seen")
        return super().decide(view, memory)
