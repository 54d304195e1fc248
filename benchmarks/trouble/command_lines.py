"""Command lines with a slip in them, and what each may lead to."""

import random
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.trouble.case import Case
from benchmarks.trouble.material import NUMBERS, SMALL, Material, with_canary
from benchmarks.trouble.other_verbs import other_verb
from benchmarks.trouble.pools import WORDS, draw, misspelt
from benchmarks.trouble.rules import DOMAINS, UPDATES, Domain, flag_of

KIND = "command-line"
_TRAINED = 16
"""One case in so many trains; the others are dry runs."""
_HUGE = 10**6
_FOREIGN = (
    ("--lr", "1e-3"),
    ("--learning_rate", "1e-3"),
    ("--epochs", "3"),
    ("--num_train_epochs", "3"),
    ("--max_steps", "100"),
    ("--per_device_train_batch_size", "8"),
    ("--gradient_accumulation_steps", "4"),
    ("--bf16",),
    ("--fp16",),
    ("--model_name_or_path", "gpt2"),
    ("--output_dir", "out"),
    ("--deepspeed", "ds.json"),
    ("--deepspeed=ds.json",),
    ("--zero", "2"),
    ("--warmup_ratio", "0.1"),
    ("--wandb",),
    ("--num-gpus", "2"),
    ("--gpus", "2"),
    ("--nproc_per_node", "2"),
    ("--cuda",),
    ("--no-cuda",),
    ("--verbose",),
    ("-v",),
    ("--force",),
    ("-y",),
    ("--max-steps", "4"),
    ("--width", "16"),
    ("--penalty", "0.1"),
    ("--halting", "PonderNet"),
    ("--rule", "PonderNet"),
    ("--data", "x"),
    ("--model", "x"),
    ("--config.updates", "3"),
    ("--set", "updates=3"),
    ("updates=3",),
    ("+updates=3",),
)
"""Flags of other trainers, and of other ideas of ours."""
_CONFLICTS = (
    ("--halting.min-steps", "3", "--loop.max-steps", "2"),
    ("--loop.mean-depth", "4", "--loop.max-steps", "3"),
    ("--accumulation", "3"),
    ("--stretch-to", "limit"),
    ("--patience", "2"),
    ("--penalty.target-steps", "9"),
    ("--penalty.target-steps", "0.5"),
    ("--penalty.target-steps", "2", "--on-collapse", "recover"),
    ("--penalty.target-steps", "2", "--penalty.ramp", "0.01", "0.1"),
    ("--penalty.ramp", "0.1", "0.01"),
    ("--penalty.ramp", "0", "0.1"),
    ("--penalty.target-steps", "2", "--loop.train-depth", "uniform"),
    ("--train-only", "rule"),
    ("--model.num-heads", "3"),
    ("--model.width", "7"),
    ("--resume", "runs/base"),
    ("--from-tune", "x"),
    ("--pick", "knee"),
    ("--config", "x.json"),
    ("--cost.kind", "None", "--penalty.target-steps", "2"),
    ("--precision", "fp16"),
    ("--precision", "bf16_weights"),
    ("--device", "cuda", "--precision", "fp16"),
    ("--start-from", "nothing"),
    ("--deepspeed-config", "nothing.json"),
    ("--halting.kind", "FixedSteps", "--halting.epsilon", "0.1"),
    ("--halting.kind", "PonderNet", "--penalty.ramp", "0.1", "0.2"),
    ("--readout.kind", "EveryStep", "--cost.kind", "LoadBalance"),
    ("--data.kind", "PointerChase", "--data.causal"),
    ("--model.positions", "rotary", "--model.width", "6"),
)
"""Flags that refuse each other."""
_VERBS = (
    "trian",
    "Train",
    "TRAIN",
    "train ",
    "",
    "-",
    "--",
    "run",
    "fit",
    "eval uate",
    "é",
    "\x1b[31m",
    "x" * 5000,
    "../train",
    "train\n",
)


def make(number: int, material: Material) -> Case:
    """The case of this number."""
    source = draw(number, KIND)
    if number % 4 == 3:
        return other_verb(KIND, number, source, material)
    kinds = (
        _value,
        _value,
        _value,
        _value,
        _value,
        _two_values,
        _spelling,
        _without_value,
        _twice,
        _same,
        _extra,
        _order,
        _foreign,
        _conflict,
        _verb,
        _cut,
    )
    case = source.choice(kinds)(number, source)
    trains = number % _TRAINED == 0 and case.words[:1] == ("train",) and not _is_long(case.words)
    dry = () if trains or case.words[:1] != ("train",) else ("--dry-run",)
    return replace(
        case,
        words=(*case.words, *dry),
        says=case.says if dry else f"{case.says}, trained",
        prepare=partial(_prepare, material=material),
        limit=90.0 if trains else 60.0,
    )


def _prepare(place: Path, material: Material) -> None:
    with_canary(place)
    material.copy(place)


def _base(**changes: Any) -> Case:
    return Case(**{"kind": KIND, "words": ("train", *SMALL), **changes})


def _value(number: int, source: random.Random) -> Case:
    """One flag with another value."""
    path = source.choice(list(DOMAINS))
    word = source.choice(WORDS)
    return replace(
        _with_value(path, word, _base(number=number, says="")),
        says=f"{flag_of(path)} {word[:60]!r}",
    )


def _two_values(number: int, source: random.Random) -> Case:
    """Two flags with other values; each of them may be what the other forbids, so only a refusal of
    one alone is asked for."""
    first, second = source.sample(list(DOMAINS), 2)
    word = source.choice(WORDS)
    other = source.choice(("1", "2", "4", "8", "0.5", "1e-3"))
    case = _with_value(first, word, _base(number=number, says=""))
    beside = _with_value(second, other, case)
    said = f"{flag_of(first)} {word[:60]!r} {flag_of(second)} {other}"
    both = None if case.rule is None or beside.rule is None else "value"
    return replace(beside, says=said, rule=both, must_say=None, must_work=False)


def _with_value(path: str, word: str, case: Case) -> Case:
    domain = DOMAINS[path]
    flag = flag_of(path)
    words = case.words
    if flag in words:
        place = words.index(flag)
        words = (*words[: place + 1], word, *words[place + 2 :])
    elif word.startswith("-"):
        words = (*words, f"{flag}={word}")
    else:
        words = (*words, flag, word)
    rule, must_say, config = judged(path, domain, word)
    if "=" in words[-1] or word == "None":
        config = ()
    return replace(case, words=words, rule=rule, must_say=must_say, config=config)


def judged(path: str, domain: Domain, word: str) -> tuple[str | None, str | None, tuple]:
    """The rule that allows a word behind a flag, what has to be said, and what the config holds."""
    if word in ("-h", "--help"):
        return "help", None, ()
    if word == "None" and domain.nothing:
        return "value", None, ()
    if domain.kind == "bool":
        return None, None, ()
    try:
        value = domain.read(word)
        allowed = domain.allows(value)
    except (ValueError, OverflowError):
        return None, None, ()
    if not allowed:
        return None, None, ()
    must_say = domain.must_say(value)
    return ("value" if must_say is None else "said"), must_say, ((path, value),)


def _spelling(number: int, source: random.Random) -> Case:
    """A flag with a slip."""
    words = list(SMALL)
    place = source.choice([place for place, word in enumerate(words) if word.startswith("--")])
    wrong = "--" + misspelt(words[place][2:], source)
    known = {flag_of(path) for path in DOMAINS}
    words[place] = wrong
    same = wrong.replace("_", "-") in known
    return _base(
        number=number,
        says=f"{wrong} for {SMALL[place]}",
        words=("train", *words),
        rule="spelling" if same else None,
    )


def _without_value(number: int, source: random.Random) -> Case:
    """A flag whose value is missing."""
    words = list(SMALL)
    place = source.choice([place for place, word in enumerate(words) if word.startswith("--")])
    del words[place + 1]
    return _base(number=number, says=f"{words[place]} without a value", words=("train", *words))


def _twice(number: int, source: random.Random) -> Case:
    """A flag that is given twice."""
    name, value = source.choice([each for each in NUMBERS if isinstance(each[1], int)])
    path = next(path for path in DOMAINS if flag_of(path) == f"--{name}")
    other = int(value) * 2 if name != "loop.max-steps" else 8
    words = ("train", *SMALL, f"--{name}", str(other))
    return _base(
        number=number, says=f"--{name} twice", words=words, rule="last", config=((path, other),)
    )


def _same(number: int, source: random.Random) -> Case:
    """Other spellings of the same."""
    words = ["train", SMALL[0]]
    for flag, value in zip(SMALL[1::2], SMALL[2::2], strict=True):
        said = flag.replace("-", "_").replace("__", "--", 1) if source.random() < 0.4 else flag
        words += [f"{said}={value}"] if source.random() < 0.4 else [said, value]
    return _base(
        number=number,
        says="dashes, underscores, =",
        words=tuple(words),
        rule="spelling",
        must_work=True,
        config=(("updates", UPDATES), ("loop.max_steps", 4)),
    )


def _extra(number: int, source: random.Random) -> Case:
    """A word that belongs to no flag."""
    words = ["train", *SMALL]
    word = source.choice([each for each in WORDS if not each.startswith("-") and each])
    words.insert(source.randrange(2, len(words) + 1), word)
    return _base(number=number, says=f"the word {word[:60]!r} somewhere", words=tuple(words))


def _order(number: int, source: random.Random) -> Case:
    """Flags in another order; or all words in any order."""
    pairs = list(zip(SMALL[1::2], SMALL[2::2], strict=True))
    source.shuffle(pairs)
    words = [word for pair in pairs for word in pair]
    if source.random() < 0.5:
        return _base(
            number=number,
            says="flags in another order",
            words=("train", SMALL[0], *words),
            rule="order",
            must_work=True,
            config=(("updates", UPDATES),),
        )
    flat = list(SMALL)
    source.shuffle(flat)
    return _base(number=number, says="words in any order", words=("train", *flat))


def _foreign(number: int, source: random.Random) -> Case:
    """Flags of another program."""
    flags = source.choice(_FOREIGN)
    place = source.choice((2, len(SMALL) + 1))
    words = ["train", *SMALL]
    words[place:place] = flags
    return _base(number=number, says=" ".join(flags), words=tuple(words))


def _conflict(number: int, source: random.Random) -> Case:
    """Flags that refuse each other."""
    flags = source.choice(_CONFLICTS)
    words = ["train", *SMALL]
    for flag, value in pairwise(flags):
        if flag in words and not value.startswith("--"):
            place = words.index(flag)
            del words[place : place + 2]
    case = _base(number=number, says=" ".join(flags), words=(*words, *flags))
    if flags[:2] == ("--cost.kind", "None"):
        return replace(case, rule="default")  # the rule's own cost
    if "cuda" in flags:
        return replace(case, rule="noted", must_say="would be refused here")
    return case


def _verb(number: int, source: random.Random) -> Case:
    """A verb or a recipe with a slip."""
    if source.random() < 0.5:
        verb = source.choice((*_VERBS, misspelt("train", source)))
        if verb == "train":
            verb = "trains"
        return _base(number=number, says=f"the verb {verb[:40]!r}", words=(verb, *SMALL))
    recipe = source.choice((*WORDS, *(misspelt("parity", source) for _ in range(60))))
    rule = {"-h": "help", "--help": "help", "parity": "value"}.get(recipe)
    return _base(
        number=number,
        says=f"the recipe {recipe[:60]!r}",
        words=("train", recipe, *SMALL[1:]),
        rule=rule,
    )


def _cut(number: int, source: random.Random) -> Case:
    """A command line that ends too early: within a flag's name, or before its value."""
    place = source.randrange(1, len(SMALL))
    word = SMALL[place]
    kept = SMALL[:place]
    if word.startswith("--"):
        length = source.randrange(3, len(word)) if len(word) > 3 else 2
        cut = word[:length]
        return _base(number=number, says=f"cut within {word}", words=("train", *kept, cut))
    return _base(number=number, says=f"cut before the value of {kept[-1]}", words=("train", *kept))


def _is_long(words: tuple[str, ...]) -> bool:
    """Whether a training would rightly take long."""
    for word in words:
        try:
            if abs(float(word.partition("=")[2] or word)) > _HUGE:
                return True
        except (ValueError, OverflowError):
            continue
    return False
