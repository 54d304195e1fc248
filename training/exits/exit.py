"""Other exits for a trained model at evaluation: the learned one, with other options too, everybody
at one depth, or a hard exit without parameters that decides in the learned one's place."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from halting.errors import UsageError
from halting.readout import FinalState
from halting.rule import HaltingRule
from halting.rules.confidence_exit import ConfidenceExit
from halting.rules.convergence_exit import ConvergenceExit
from halting.rules.fixed_steps import FixedSteps
from halting.wrappers.exit_by import ExitBy
from halting.wrappers.per_sequence import PerSequence
from halting.wrappers.stop_at import StopAt
from halting.wrappers.wrapper import RuleWrapper
from training.build import build_rule
from training.config.parts import ROLES, signature_fields
from training.config.spelling import did_you_mean

if TYPE_CHECKING:
    from training.runs.loaded import Run

_HARD_EXITS: dict[str, tuple[type[HaltingRule], str]] = {
    "convergence": (ConvergenceExit, "criterion"),
    "confidence": (ConfidenceExit, "measure"),
}
"""By the word that names it: the rule, and the option that chooses between its kinds."""


@dataclass(frozen=True)
class Exit:
    """How tokens leave the loop in an evaluation.

    Args:
        name: as it was written.
        steps: the depth at which all leave; None where they leave by a rule.
        rule: the hard exit by which they leave; None for the one that was trained, or for `steps`.
        options: other options for the rule that was trained, with its trained weights.
        bare: read the state of that step alone, instead of the model's own readout with all
            remaining mass on it.
    """

    name: str
    steps: int | None = None
    rule: HaltingRule | None = None
    options: dict[str, Any] = field(default_factory=dict)
    bare: bool = False

    def limit(self, run: "Run") -> int:
        """The step limit it needs."""
        return run.model.recurrence.max_steps if self.steps is None else self.steps

    @contextmanager
    def applied_to(self, run: "Run") -> Iterator[None]:
        """While entered, the tokens of the run's model leave this way.

        Raises:
            UsageError: for an exit that the model cannot take, and for options that its rule has
                not got.
        """
        recurrence = run.model.recurrence
        trained = recurrence.rule
        readout = recurrence.readout
        self._put(run)
        try:
            yield
        finally:
            run.model.use(trained, readout)

    def apply_to(self, run: "Run") -> None:
        """From now on the tokens of the run's model leave this way.

        Raises:
            UsageError: as `applied_to`.
        """
        limit = self.limit(run)
        self._put(run)
        run.model.recurrence.max_steps = limit

    def _put(self, run: "Run") -> None:
        trained = run.model.recurrence.rule
        readout = run.model.recurrence.readout
        run.model.use(
            self._rule_for(run, trained).train(trained.training),
            FinalState() if self.bare else readout,
        )

    def _rule_for(self, run: "Run", trained: HaltingRule) -> HaltingRule:
        if self.steps is not None:
            return FixedSteps(self.steps) if self.bare else StopAt(trained, self.steps)
        if self.rule is not None:
            if run.model.mixes_after_loop and self.rule.reads_logits:
                raise UsageError(
                    f"--exit {self.name} reads logits inside the loop, and in the model tokens see "
                    "one another after it (a coda).",
                    "What the model would say is known only after the coda, which attends to other "
                    "tokens: decoding would leave at other steps than the parallel pass.",
                    "Write an exit that reads states, --exit convergence:state or --exit "
                    "convergence:cosine.",
                )
            halting = PerSequence(self.rule) if trained.by_sequence else self.rule
            return halting if self.bare else ExitBy(trained, halting)
        return _with_options(run, trained, self.options, self.name) if self.options else trained


LEARNED = Exit("learned")
"""The rule that was trained, as it was trained."""


def parse_exit(spec: str) -> Exit:
    """The exit that is written as "learned", "learned:q=0.7", "fixed:8", "convergence:1e-3",
    "convergence:kl:5e-4", "confidence:0.9" or "confidence:gap:0.5"; kind and number may be left
    out, and options follow as NAME=VALUE.

    Raises:
        UsageError: for anything else, and for what the rule refuses.
    """
    kind, *parts = spec.split(":")
    if kind == "fixed" and len(parts) == 1 and parts[0].isdecimal() and int(parts[0]) >= 1:
        return Exit(spec, steps=int(parts[0]))
    given: dict[str, Any] = {}
    if kind in _HARD_EXITS:
        cls, chooses = _HARD_EXITS[kind]
        if parts and parts[0] and "=" not in parts[0] and not _is_number(parts[0]):
            given[chooses] = parts.pop(0)
        if parts and _is_number(parts[0]):
            given["threshold"] = float(parts.pop(0))
        if not parts or _are_pairs(parts):
            return Exit(spec, rule=_hard_exit(cls, given | _pairs(parts), spec))
    if kind == "learned" and (not parts or _are_pairs(parts)):
        return Exit(spec, options=_pairs(parts))
    raise UsageError(
        f"--exit {spec} is not known.",
        "The exits are learned, the rule that was trained, also with other options; fixed:N, all "
        "tokens at step N ≥ 1; and convergence and confidence, with their kind and threshold if "
        "you like.",
        "Write learned, learned:NAME=VALUE, fixed:8, convergence:0.03, convergence:kl:5e-4, "
        "confidence:0.9 or confidence:gap:0.5.",
    )


def _with_options(
    run: "Run", trained: HaltingRule, options: dict[str, Any], name: str
) -> HaltingRule:
    """The trained rule built anew with other options, in its wrappers and with its trained
    weights."""
    inner = trained
    while isinstance(inner, RuleWrapper):
        inner = inner.rule
    kept = [option.name for option in signature_fields(type(inner)) if hasattr(inner, option.name)]
    for option in options:
        if option not in kept:
            raise _no_such_option(type(inner), option, kept, name)
    part = run.config.halting.model_copy(
        update={"options": {**run.config.halting.options, **options}}
    )
    with torch.random.fork_rng(devices=[]):
        rule = build_rule(run.config.model_copy(update={"halting": part})).to(run.device)
    try:
        rule.load_state_dict(trained.state_dict(), assign=True)
    except RuntimeError as error:
        raise UsageError(
            f"--exit {name} does not fit the trained rule: {str(error).splitlines()[-1].strip()}",
            "The option changes what the rule learns, not only when it lets tokens go.",
            "Train with that option, or write --exit learned.",
        ) from None
    return rule


def _no_such_option(cls: type, option: str, kept: list[str], name: str) -> UsageError:
    role = ROLES["halting"]
    elsewhere = [
        other
        for other in role.names
        if any(each.name == option for each in signature_fields(role.exported[other]))
    ]
    has = f"It has {', '.join(kept)}. " if kept else "It has none. "
    return UsageError(
        f"--exit {name}: {cls.__name__} has no option {option} that could be changed after "
        "training.",
        has
        + (
            f"{option} is an option of {', '.join(elsewhere)}."
            if elsewhere
            else f"No rule has a {option}."
        ),
        f"{did_you_mean(option, kept)}Write --exit learned{f':{kept[0]}=VALUE' if kept else ''}.",
    )


def _hard_exit(cls: type[HaltingRule], given: dict[str, Any], spec: str) -> HaltingRule:
    known = {option.name: option for option in signature_fields(cls)}
    for name, value in given.items():
        if name not in known:
            raise UsageError(
                f"--exit {spec}: {cls.__name__} has no option {name}.",
                f"Its options are {', '.join(known)}.",
                f"{did_you_mean(name, known)}Write one of them.",
            )
        try:
            known[name].adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            raise UsageError(
                f"--exit {spec}: {name} is {value!r}.",
                f"{cls.__name__} cannot take that: {error.errors()[0]['msg'].lower()}.",
                f"Write another {name}, or leave it out for the default.",
            ) from None
    try:
        return cls(**given)
    except UsageError as error:
        raise UsageError(f"--exit {spec}: {error.what}", error.why, error.write) from None


def _are_pairs(parts: list[str]) -> bool:
    return len(parts) == 1 and all(
        pair.partition("=")[0] and pair.partition("=")[2] for pair in parts[0].split(",")
    )


def _pairs(parts: list[str]) -> dict[str, Any]:
    """What "a=1,b=x" says, as JSON values where they are such."""
    given: dict[str, Any] = {}
    for pair in parts[0].split(",") if parts else ():
        name, _, text = pair.partition("=")
        try:
            given[name.replace("-", "_")] = json.loads(text)
        except json.JSONDecodeError:
            given[name.replace("-", "_")] = text
    return given


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
