"""What a halting rule returned, refused where the loop could not go by it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from halting.errors import UsageError
from halting.gate import Gate
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.wrappers.wrapper import RuleWrapper

_DECIDE = "decide(self, view, memory)"
_BEGIN = "begin(self, view)"
_RETURNS = "return StepDecision(mass, halt, score), memory"


def rule_name(rule: HaltingRule) -> str:
    """What its user calls it, whatever is around it."""
    return rule_name(rule.rule) if isinstance(rule, RuleWrapper) else type(rule).__name__


def check_width(rule: HaltingRule, width: object) -> None:
    """Refuses a rule whose gate reads states of another width; of what is no width, nothing is
    said.

    Raises:
        UsageError: for such a rule.
    """
    for module in rule.modules() if isinstance(width, int) else ():
        if isinstance(module, Gate) and module.weight.dim() == 2:  # not in an engine's hands
            if module.weight.shape[1] != width:
                raise UsageError(
                    f"{rule_name(rule)} reads states of width {module.weight.shape[1]}, and those "
                    f"of the loop have width {width}.",
                    "Its gate is a dot product with a state.",
                    f"Write {rule_name(rule)}(dim={width}).",
                )
            return


@contextmanager
def saying_who(rule: HaltingRule, view: StepView) -> Iterator[None]:
    """What a rule raises as it is used for the first time, said with its name.

    Raises:
        UsageError: from what it raises; but not for memory that a device lacks.
    """
    try:
        yield
    except (UsageError, AssertionError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        tokens, width = view.state.shape
        raise UsageError(
            f"{rule_name(rule)} fails at its first step: {type(error).__name__}: {error}",
            f"It was asked about {tokens} tokens with states of width {width}.",
            f"Make it for that width (dim={width}), or fix its {_DECIDE}.",
        ) from error


def check_begun(rule: HaltingRule, returned: Any, count: int) -> tuple[Memory, Tensor | None]:
    """What `HaltingRule.begin` returned, for so many tokens.

    Raises:
        UsageError: for something else than a memory with one row a token and a gain [A] or None.
    """
    if not isinstance(returned, tuple) or len(returned) != 2:
        _refuse(rule, _BEGIN, f"returns {_kind(returned)}", "return memory, None")
    memory, gain = returned
    if gain is not None:
        _check_row("gain", rule, _BEGIN, gain, count)
    check_memory(rule, _BEGIN, memory, count)
    return memory, gain


def check_decided(rule: HaltingRule, returned: Any, view: StepView) -> tuple[StepDecision, Memory]:
    """What `HaltingRule.decide` returned after a step.

    Raises:
        UsageError: for something else than a decision and a memory; a mass that is narrower than
            float32; a halt that is no bool; any of them without one row a token; an aux that
            `gives_aux` promises and that is not there.
    """
    count = len(view.state)
    if not isinstance(returned, tuple) or len(returned) != 2:
        _refuse(rule, _DECIDE, f"returns {_kind(returned)}", _RETURNS)
    decision, memory = returned
    if not isinstance(decision, StepDecision):
        _refuse(rule, _DECIDE, f"decides by {_kind(decision)}", _RETURNS)
    for name in ("mass", "score", *(["gain"] if decision.gain is not None else [])):
        _check_row(name, rule, _DECIDE, getattr(decision, name), count)
    if torch.finfo(decision.mass.dtype).bits < 32:
        _refuse(
            rule,
            _DECIDE,
            f"gives mass in {str(decision.mass.dtype).removeprefix('torch.')}",
            "widen it, view.state.float(), before anything is added up",
            "Halting arithmetic is float32 or wider: in bfloat16 about one token in a hundred "
            "leaves at another step.",
        )
    halt: Any = decision.halt
    if not isinstance(halt, Tensor) or halt.dtype != torch.bool or halt.shape != (count,):
        found = _kind(halt)
        _refuse(rule, _DECIDE, f"gives halt as {found}", f"give a bool tensor [{count}]")
    missing = set(rule.gives_aux) - decision.aux.keys()
    if missing:
        named = ", ".join(sorted(missing))
        why = "Its gives_aux promises it to costs and readouts."
        write = f"add it, or take {named} out of gives_aux"
        _refuse(rule, _DECIDE, f"gives no aux {named}", write, why)
    for name, value in decision.aux.items():
        if not isinstance(value, Tensor) or value.shape[:1] != (count,):
            found = _kind(value)
            _refuse(rule, _DECIDE, f"gives aux {name} as {found}", "give one row a token")
    check_memory(rule, _DECIDE, memory, count)
    return decision, memory


def check_finite(rule: HaltingRule, decision: StepDecision, view: StepView) -> None:
    """Refuses masses that are no numbers, of states that are.

    Raises:
        UsageError: for such a mass, and one below 0.
    """
    mass = decision.mass.detach()
    if bool((mass >= 0).all()) or not bool(view.state.isfinite().all()):
        return
    worst = float(mass[~(mass >= 0)][0])
    _refuse(
        rule,
        _DECIDE,
        f"gives a mass of {worst:g}",
        "give 0 where nothing is spent; the loop itself spends the rest of who leaves",
        "It is the exit mass to spend now, a number of 0 or more; the states are all finite.",
    )


def check_memory(rule: HaltingRule, where: str, memory: Any, count: int) -> None:
    """Refuses a memory without one row a token."""
    if isinstance(memory, Tensor):
        if memory.shape[:1] != (count,):
            _refuse(
                rule,
                where,
                f"remembers {_kind(memory)}",
                "remember one row a token",
                f"There are {count} tokens, and the memory goes on with the rows of those who "
                "stay.",
            )
    elif isinstance(memory, dict):
        for value in memory.values():
            check_memory(rule, where, value, count)
    elif isinstance(memory, tuple):
        for value in memory:
            check_memory(rule, where, value, count)
    elif memory is not None:
        _refuse(
            rule,
            where,
            f"remembers {_kind(memory)}",
            "keep tensors, alone or in dicts and tuples, or None",
            "The loop goes on with the rows of those who stay.",
        )


def _check_row(name: str, rule: HaltingRule, where: str, value: Any, count: int) -> None:
    if not isinstance(value, Tensor) or value.shape != (count,) or not value.is_floating_point():
        _refuse(rule, where, f"gives {name} as {_kind(value)}", f"give floats [{count}]")


def _refuse(
    rule: HaltingRule,
    where: str,
    what: str,
    write: str,
    why: str = "The loop goes by a decision for each active token, one row a token.",
) -> None:
    raise UsageError(f"{rule_name(rule)}.{where} {what}.", why, f"{write[0].upper()}{write[1:]}.")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return repr(value)[:60] if value is None or isinstance(value, int | float | str) else _a(value)


def _a(value: object) -> str:
    return f"a {type(value).__name__}"
