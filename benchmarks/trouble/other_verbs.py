"""Command lines of the verbs that look at a run."""

import random
from functools import partial
from pathlib import Path

from benchmarks.trouble.case import Case, Ended
from benchmarks.trouble.material import Material, with_canary
from benchmarks.trouble.pools import WORDS, misspelt
from benchmarks.trouble.rules import Domain, choice, is_path, real, switch, text, whole

_SPLITS = choice("train", "validation", "test")
_OUT = Domain(str, lambda value: is_path(value) and value not in ("/", ".", "..", "~", "--"))
_COUNT = whole(1, 3000)
"""Above, it rightly takes long or a lot of memory: allowed, and not tried."""
_TEXT = text(
    lambda value: (
        bool(value.split())
        and set("".join(value.split())) <= set("01")
        and len("".join(value.split())) <= 4
    ),
    nothing=False,
)

VERBS: dict[str, tuple[tuple[str, ...], dict[str, Domain]]] = {
    "show": (
        ("show", "runs/base"),
        {
            "text": _TEXT,
            "split": _SPLITS,
            "num": _COUNT,
            "max-steps": whole(1, 64),
            "png": _OUT,
            "html": _OUT,
            "json": _OUT,
            "width": whole(1),
            "bars": switch(),
            "ascii": switch(),
            "aggregates": switch(),
            "pareto": Domain(str, lambda value: False),
        },
    ),
    "eval": (
        ("eval", "runs/base"),
        {
            "exit": Domain(str, lambda value: value in ("learned", "fixed:2")),
            "by": choice("difficulty"),
            "split": _SPLITS,
            "examples": _COUNT,
            "batch-size": whole(),
            "json": _OUT,
        },
    ),
    "ablate": (
        ("ablate", "runs/base", "--examples", "8"),
        {
            "steps": whole(1, 64),
            "split": _SPLITS,
            "examples": _COUNT,
            "batch-size": whole(),
            "json": _OUT,
        },
    ),
    "calibrate": (
        ("calibrate", "runs/base", "--examples", "50", "--risk", "0.2"),
        {
            "risk": real(lambda value: 0 < value < 1),
            "confidence": real(lambda value: 0 < value < 1),
            "exit": choice("learned", "convergence", "confidence", "fixed"),
            "loss": choice("lost", "changed", "nats"),
            "split": choice("validation", "test"),
            "examples": _COUNT,
            "batch-size": whole(),
            "name": text(
                lambda value: is_path(value) and "/" not in value and value not in (".", ".."),
                nothing=False,
            ),
            "json": _OUT,
        },
    ),
    "compare": (
        ("compare", "runs/base", "runs/base@10", "--examples", "4"),
        {
            "split": _SPLITS,
            "num": _COUNT,
            "text": _TEXT,
            "sequences": whole(),
            "png": _OUT,
            "html": _OUT,
            "json": _OUT,
            "width": whole(1),
        },
    ),
    "export": (("export", "runs/base"), {"to": choice("safetensors"), "output": _OUT}),
    "profile": (
        ("profile", "runs/base", "--repeats", "1"),
        {"batch-size": _COUNT, "split": _SPLITS, "repeats": whole(1, 50), "json": _OUT},
    ),
    "report": (
        (
            "report",
            "runs/base",
            "--examples",
            "8",
            "--points",
            "2",
            "--repeats",
            "1",
            "--exit",
            "fixed",
        ),
        {
            "split": choice("validation", "test"),
            "examples": _COUNT,
            "batch-size": whole(),
            "points": whole(1, 50),
            "repeats": whole(1, 20),
            "name": text(
                lambda value: is_path(value) and "/" not in value and value not in (".", ".."),
                nothing=False,
            ),
        },
    ),
    "serve": (
        ("serve", "runs/base", "--port", "0"),
        {  # what is allowed would serve for ever, so that only what has to be refused is tried
            "port": whole(0, 65535),
            "host": Domain(str, lambda value: True),
            "most-bytes": whole(),
            "most-tokens": whole(),
            "most-steps": whole(),
            "most-waiting": whole(),
        },
    ),
    "tune": (
        (
            "tune",
            "parity",
            "--penalty.value",
            "0",
            "0.01",
            "--trial-budget",
            "2updates",
            "--updates",
            "2",
        ),
        {  # likewise: a sweep trains
            "trial-budget": Domain(
                str, lambda value: value.rstrip("0123456789.") in ("s", "updates", "flops")
            ),
            "seeds": whole(),
            "jobs": whole(),
            "trials": whole(),
            "quality": choice("accuracy", "sequence_accuracy", "bits"),
            "keep": choice("figures", "run", "runs", "nothing", "all", "weights"),
            "out": Domain(str, lambda value: True),
            "penalty.value": real(lambda value: value >= 0),
        },
    ),
    "recipes": (("recipes",), {}),
    "doctor": (
        ("doctor", "--quick"),
        {"port": whole(0, 65535), "output": _OUT, "hostfile": Domain(str, lambda value: False)},
    ),
}
"""A command line of each verb, and what its flags take."""
_RESUMES = (
    "",
    " ",
    ".",
    "..",
    "/",
    "runs",
    "runs/none",
    "runs/base@",
    "runs/base@7",
    "runs/base@-1",
    "runs/base@1e1",
    "runs/base@10@20",
    "runs/base@\u0663",
    "runs/base@" + "9" * 30,
    "runs/base@latest",
    "runs/base@best ",
    "runs/base/config.json",
    "runs/base/checkpoints",
    "runs/base/final/x",
    "\x1b[31m",
    "a\nb",
    "runs/base\udcff",
    "x" * 5000,
    "/dev/null",
    "/proc/self",
    "https://example.org/run",
    "runs/*",
    "$(touch EXECUTED)",
    "runs/base#",
    "runs/base?",
)
"""What is no run."""
_NOT_RUN = ("serve", "tune")


def other_verb(kind: str, number: int, source: random.Random, material: Material) -> Case:
    """A case of one of these verbs."""
    verb = source.choice(list(VERBS))
    words, flags = VERBS[verb]
    how = source.choice((_value, _value, _value, _value, _run, _misspelt, _extra))
    case = how(Case(kind, number, "", words), verb, flags, source)
    for _ in range(50):  # what may be and would run for ever is drawn again
        if verb not in _NOT_RUN or case.rule is None:
            break
        case = how(Case(kind, number, "", words), verb, flags, source)
    return Case(
        kind,
        number,
        f"{verb}: {case.says}",
        case.words,
        case.rule,
        prepare=partial(_prepare, material=material),
        check=_kept,
        limit=90.0,
    )


def _prepare(place: Path, material: Material) -> None:
    with_canary(place)
    material.copy(place)


def _kept(place: Path, ended: Ended) -> str | None:
    """The run is still there, whatever was asked of it."""
    run = place / "runs" / "base"
    lost = [
        name
        for name in ("config.json", "summary.json", "final", "checkpoints")
        if not (run / name).exists()
    ]
    return f"loss: {', '.join(lost)}" if lost else None


def _value(case: Case, verb: str, flags: dict[str, Domain], source: random.Random) -> Case:
    if not flags:
        return _extra(case, verb, flags, source)
    name = source.choice(list(flags))
    domain = flags[name]
    word = source.choice([each for each in WORDS if not _is_long(domain, each)])
    flag = f"--{name}"
    words = list(case.words)
    if flag in words:
        place = words.index(flag)
        words[place + 1 : place + 2] = [word]
    elif word.startswith("-"):
        words.append(f"{flag}={word}")
    else:
        words += [flag, word]
    rule = "value" if _allows(domain, word) else None
    return Case(case.kind, case.number, f"{flag} {word[:60]!r}", tuple(words), rule)


def _is_long(domain: Domain, word: str) -> bool:
    """A number that is allowed and for which nobody wants to wait."""
    try:
        return domain.kind == "int" and int(word) > 3000 and not domain.allows(10**6)
    except ValueError:
        return False


def _allows(domain: Domain, word: str) -> bool:
    if word == "None":
        return (
            True  # every option of these verbs that has no default takes it, the others refuse it
        )
    try:
        return domain.allows(domain.read(word))
    except (ValueError, OverflowError):
        return False


def _run(case: Case, verb: str, flags: dict[str, Domain], source: random.Random) -> Case:
    if not any(word.startswith("runs/") for word in case.words):
        return _extra(case, verb, flags, source)
    wrong = source.choice(_RESUMES)
    words = tuple(wrong if word == "runs/base" else word for word in case.words)
    return Case(case.kind, case.number, f"the run {wrong[:60]!r}", words)


def _misspelt(case: Case, verb: str, flags: dict[str, Domain], source: random.Random) -> Case:
    if not flags:
        return _extra(case, verb, flags, source)
    flag = "--" + misspelt(source.choice(list(flags)), source)
    if flag[2:].replace("_", "-") in flags or flag in ("--", "---"):
        flag = "--nothing"
    return Case(case.kind, case.number, f"{flag} 1", (*case.words, f"{flag}=1"))


def _extra(case: Case, verb: str, flags: dict[str, Domain], source: random.Random) -> Case:
    if verb == "compare":  # takes further runs
        return Case(case.kind, case.number, "--nothing", (*case.words, "--nothing", "1"))
    word = source.choice([each for each in WORDS if each and not each.startswith("-")])
    words = (case.words[0], *case.words[1:2], word, *case.words[2:])
    return Case(case.kind, case.number, f"the word {word[:60]!r}", words)
