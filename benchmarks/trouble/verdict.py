"""What is wrong with how a case ended."""

import math
import re
import signal
from typing import Any

from benchmarks.trouble.case import Case, Ended
from benchmarks.trouble.json_tree import at
from benchmarks.trouble.rules import RULES

FAULTS = (
    "traceback",
    "hang",
    "execution",
    "nonsense",
    "loss",
    "crash",
    "unexplained",
    "write outside",
    "leftover",
)
"""What a case may be guilty of: in the output; past its time; a stranger's code ran; a success that
no rule allows; something lost; an end that is no exit; a refusal without its three parts; a file
beside the case's folder; a file left among temporary ones."""
_TRACEBACK = "Traceback (most recent call last)"
_PARTS = re.compile(r"^error: .+^ +why: +\S.*^ +fix: +\S", re.MULTILINE | re.DOTALL)
_OF_FLAGS = re.compile(r"(For full helptext|usage:)")
_VERB = re.compile(r"^error: there is no verb ", re.MULTILINE)
_NOT_FINITE = re.compile(r"(?<![\w.-])-?(nan|inf)(?![\w-])", re.IGNORECASE)
_STOPPED = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
"""A signal while a training starts or tests, with three parts that say what stands."""
_UNHEARD = {-signal.SIGQUIT, -signal.SIGUSR1}
"""Signals that a training does not hear."""
_CODES = {0, 1, 2, *_STOPPED, *_UNHEARD}


def faults(case: Case, ended: Ended, wrong: str | None) -> list[tuple[str, str]]:
    """The faults of a case, each with what it shows; none where all is well.

    Args:
        case, ended: the case and how it ended.
        wrong: what its own check says.
    """
    found: list[tuple[str, str]] = []
    if _TRACEBACK in ended.said:
        found.append(("traceback", last_line(ended.said)))
    if ended.code is None:
        found.append(("hang", f"still there after {case.limit:.0f} s"))
    elif ended.code not in _CODES:
        found.append(("crash", f"exit code {ended.code}"))
    elif ended.code > 0 and not is_explained(ended.said, ended.code):
        found.append(("unexplained", f"exit code {ended.code}: {last_line(ended.said)}"))
    if ended.executed:
        found.append(("execution", "the canary's marker is there"))
    if ended.outside:
        found.append(("write outside", ", ".join(ended.outside)[:200]))
    left = [name for name in ended.left if not name.startswith("torchinductor_")]
    if ended.code is not None and left:
        found.append(("leftover", ", ".join(left)[:200]))
    if ended.code == 0 and (says := nonsense(case, ended)) is not None:
        found.append(("nonsense", says))
    if ended.code == 2 and case.must_work:
        found.append(
            ("nonsense", f"refused, against the rule {case.rule}: {last_line(ended.said)}")
        )
    if wrong is not None:
        kind, _, says = wrong.partition(": ")
        found.append((kind, says) if kind in FAULTS else ("nonsense", wrong))
    return found


def is_explained(said: str, code: int) -> bool:
    """Whether a refusal has its three parts, or is one of the flags' own reader, or the verb's."""
    if _PARTS.search(said) or _OF_FLAGS.search(said) or _VERB.search(said):
        return True
    if code in _STOPPED and "\n  why:  " in said and "\n  fix:  " in said:
        return True
    if code == 1 and "Something that training needs is broken" in said:
        return True  # ponder doctor
    return (code == 1 and "training stopped:" in said) or (code == 130 and "interrupted" in said)


def nonsense(case: Case, ended: Ended) -> str | None:
    """Why a success is one that no rule allows; None where one does."""
    if case.rule is None:
        return f"taken, and no rule allows it: {case.says}"
    assert case.rule in RULES, case.rule
    if case.must_say is not None and re.search(case.must_say, ended.said, re.IGNORECASE) is None:
        return f"taken without a word of {case.must_say!r}, against the rule {case.rule}"
    for path, value in case.config:
        if ended.config is None:
            break
        held = at(ended.config, path)
        if not same(held, value):
            return f"{path} is {held!r} in the config, {value!r} was given"
    if (found := _NOT_FINITE.search(without_echo(case, ended.said))) is not None:
        return f"the output has {found[0]!r}"
    return None


def without_echo(case: Case, said: str) -> str:
    """The output without the words of the command line."""
    for word in (*case.words, *(word.partition("=")[2] for word in case.words)):
        said = said.replace(word, "") if len(word) > 2 else said
    return said


def same(held: Any, given: Any) -> bool:
    """Whether a config holds what was given: numbers by value, a target as a text too."""
    if isinstance(held, str) and isinstance(given, int | float) and not isinstance(given, bool):
        held = _number(held)
    if isinstance(held, list) and isinstance(given, list | tuple):
        return len(held) == len(given) and all(map(same, held, given))
    if isinstance(held, int) and isinstance(given, int):
        return held == given
    if isinstance(held, int | float) and isinstance(given, int | float):
        return math.isclose(held, given, rel_tol=1e-9, abs_tol=0)
    return held == given


def last_line(said: str) -> str:
    """The last line that says something, shortened."""
    lines = [line.strip() for line in said.splitlines() if line.strip(" │╰╯─╭╮")]
    return lines[-1][:200] if lines else ""


def mechanism(fault: str, says: str, said: str) -> str:
    """What a fault's like share: the innermost line of our own in a traceback, else its words
    without numbers and quotes."""
    if fault == "traceback":
        places = re.findall(r'File "[^"]*?/((?:act|halting|training)/[^"]+)", line (\d+)', said)
        place = ":".join(places[-1]) if places else "?"
        return f"{place} {re.split(r'[:(]', says)[0]}"
    return re.sub(r"\s+", " ", re.sub(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\d.e+-]*", "…", says))[:100]


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
