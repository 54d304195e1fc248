"""The written rules: which changed input may be taken, what has to be said then, and what it
means. Written here a second time, from the documentation and not from the code that is judged."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RULES = {
    "value": "A value that the flag's row in the table of `domains` allows is taken as it is.",
    "said": "A value that can be trained with and hardly means well is taken, and said.",
    "spelling": "Dashes and underscores, `--flag value` and `--flag=value` mean the same.",
    "order": "The order of flags means nothing.",
    "last": "Of a flag that is given twice the last one counts, as in other programs.",
    "recipe": "A recipe's name with dashes means the one with underscores.",
    "launcher": "What launchers add means nothing: --local_rank N, --deepspeed alone.",
    "help": "--help anywhere prints help and ends with 0.",
    "noted": "A dry run for another machine notes what this one lacks, and would refuse here.",
    "default": "A key or flag that is missing has its default.",
    "whitespace": "Whitespace of JSON, the order of keys and a byte order mark mean nothing.",
    "unread": "A file that a command does not read may be damaged.",
    "rebuilt": "What can be computed again, or is told line by line, may be damaged: it is made "
    "again, or set aside with a warning.",
    "older": "A damaged checkpoint is passed over, and said, where an older one is whole.",
    "newest": "Where final/ has no weights, those of the newest checkpoint are the run's.",
    "named": "A key that nobody knows is taken if the output names it.",
    "comment": "Keys that begin with _ or comment are comments.",
    "off": "What a run cannot have may stand there switched off: false, 0 or empty.",
    "asked": "A file that the command line itself names may be run.",
    "answered": "A request is answered in the form of all answers, or its connection is closed; "
    "whoever asks next is answered.",
    "saved": "A training that is asked to stop saves and ends with 0, or says why not.",
    "kept": "A side channel that cannot be written does not end a training.",
}


@dataclass(frozen=True)
class Domain:
    """What one flag, or one key of a config, takes.

    Args:
        read: a text as the flag means it; ValueError for what it cannot mean.
        allows: whether such a value can be.
        must_say: the pattern that the output of a run with it matches; None: nothing has to be
            said.
        kind: of JSON: int, float, str, bool, list.
        nothing: None may be given, too.
    """

    read: Callable[[str], Any]
    allows: Callable[[Any], bool]
    must_say: Callable[[Any], str | None] = lambda value: None
    kind: str = "str"
    nothing: bool = False


def whole(
    least: int = 1,
    most: int = 2**63 - 1,
    also: Callable[[int], bool] = lambda value: True,
    nothing: bool = False,
    must_say: Callable[[int], str | None] = lambda value: None,
) -> Domain:
    """Whole numbers within limits."""
    return Domain(
        int, lambda value: least <= value <= most and also(value), must_say, "int", nothing
    )


def real(
    allows: Callable[[float], bool],
    nothing: bool = False,
    must_say: Callable[[float], str | None] = lambda value: None,
) -> Domain:
    """Finite numbers that something holds of."""
    return Domain(
        float, lambda value: math.isfinite(value) and allows(value), must_say, "float", nothing
    )


def choice(*names: str) -> Domain:
    """One of some names."""
    return Domain(str, lambda value: value in names, kind="str")


def switch() -> Domain:
    """--flag or --no-flag, without a value."""
    return Domain(_no_text, lambda value: isinstance(value, bool), kind="bool")


def text(allows: Callable[[str], bool], nothing: bool = True) -> Domain:
    """Texts that something holds of."""
    return Domain(str, allows, kind="str", nothing=nothing)


def is_name(value: str) -> bool:
    """A run's name: one part of a path, that can be seen and written."""
    return (
        value not in ("", ".", "..")
        and "/" not in value
        and value.isprintable()
        and len(value.encode("utf-8", "surrogateescape")) <= 200
        and not _has_surrogates(value)
    )


def is_path(value: str) -> bool:
    """A folder's path, that can be seen and written."""
    parts = value.split("/")
    return (
        value != ""
        and value.isprintable()
        and not _has_surrogates(value)
        and all(len(part.encode()) <= 200 for part in parts)
        and len(value) < 3000
    )


def _shortened(text: str) -> str:
    """2.0 is kept as 2, and 50.0% as 50%."""
    number, percent = text.removesuffix("%"), "%" if text.endswith("%") else ""
    return f"{float(number):g}{percent}"


def _is_target(value: str) -> bool:
    share = value.strip().endswith("%")
    try:
        number = float(value.strip().rstrip("%")) if share else float(value)
    except ValueError:
        return False
    steps = number / 100 * MAX_STEPS if share else number
    return 1 <= steps <= MAX_STEPS


def _no_text(value: str) -> Any:
    raise ValueError(value)


def _has_surrogates(value: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in value)


MAX_STEPS = 4
"""Of the base run, as the numbers below."""
UPDATES = 20
BATCH = 4
WIDTH = 8
HEADS = 2
RATE = 3e-3
DECAY = 0.01
LOSS = math.log(2)
"""Nats that parity costs who guesses."""

DOMAINS: dict[str, Domain] = {
    "name": text(is_name),
    "output": text(is_path, nothing=False),
    "updates": whole(),
    "batch_size": whole(),
    "accumulation": whole(also=lambda value: BATCH % value == 0),
    "balance_by": choice("order", "length", "difficulty", "ponder"),
    "seed": whole(0),
    "precision": choice("float32", "bf16"),
    "launch.device": choice("auto", "cpu"),
    "evaluation.eval_every": whole(),
    "evaluation.eval_examples": whole(),
    "evaluation.test_examples": whole(),
    "evaluation.map_every": whole(),
    "saving.save_every": whole(),
    "saving.keep_last": whole(),
    "saving.keep_every": whole(nothing=True),
    "evaluation.best_by": Domain(
        str,
        lambda value: value in ("accuracy", "sequence_accuracy", "loss", "bits"),
        nothing=True,
    ),
    "evaluation.patience": Domain(
        int, lambda value: False, kind="int", nothing=True
    ),  # asks for best_by
    "limits.max_skipped": whole(),
    "limits.time_limit": real(lambda value: value > 0, nothing=True),
    "limits.flops_limit": real(lambda value: value > 0, nothing=True),
    "limits.stretch_to": choice("updates"),
    "launch.threads": whole(nothing=True),
    "on_collapse": choice("warn", "stop", "recover"),
    "launch.timeout": real(lambda value: 0 < value <= 1e6),
    "launch.lost_after": real(lambda value: 0 < value <= 1e6),
    "start_from": Domain(str, lambda value: False, nothing=True),
    "train_only": choice("everything"),
    "launch.deepspeed_config": Domain(str, lambda value: False, nothing=True),
    "model.options.width": whole(also=lambda value: value % HEADS == 0),
    "model.options.num_heads": whole(also=lambda value: WIDTH % value == 0),
    "model.options.prelude_layers": whole(0, 1000),
    "model.options.coda_layers": whole(0, 1000),
    "model.options.num_kv_heads": whole(also=lambda value: HEADS % value == 0, nothing=True),
    "model.options.positions": choice("rotary", "learned", "none"),
    "model.options.feed_forward": choice("swiglu", "gelu"),
    "model.options.feed_forward_width": whole(nothing=True),
    "model.options.norm_kind": choice("rms", "layer"),
    "model.options.tie_embeddings": switch(),
    "model.options.num_layers": whole(0, 1000),
    "model.options.injection": choice("concat", "add", "none"),
    "model.options.step_signal": choice("sinusoidal", "none"),
    "model.options.rotary_base": real(lambda value: value > 0),
    "model.options.qk_norm": switch(),
    "loop.max_steps": whole(),
    "loop.path": choice("auto", "packed", "dense"),
    "loop.attention": choice("padded"),
    "loop.compiled": switch(),
    "loop.backprop": choice("full", "truncated", "one_step", "truncated_last", "checkpointed"),
    "loop.truncate_every": whole(),
    "loop.last_steps": whole(),
    "loop.train_depth": choice("fixed", "uniform", "lognormal_poisson"),
    "loop.mean_depth": whole(1, MAX_STEPS, nothing=True),
    "loop.depth_sigma": real(lambda value: 0 <= value <= 3),
    "halting.min_steps": whole(1, MAX_STEPS),
    "halting.per_sequence": switch(),
    "halting.options.bias_init": real(lambda value: True),
    "halting.options.epsilon": real(lambda value: 0 <= value < 1),
    "data.options.length": whole(2, 10**7),
    "data.options.causal": switch(),
    "objective.options.label_smoothing": real(lambda value: 0 <= value < 1),
    "optimizer.learning_rate": real(
        lambda value: value > 0,
        must_say=lambda value: r"weight.decay" if value * DECAY >= 1 else None,
    ),
    "optimizer.weight_decay": real(
        lambda value: value >= 0,
        must_say=lambda value: r"weight.decay \S+ ×|decay" if value * RATE >= 1 else None,
    ),
    "optimizer.decay_embeddings": switch(),
    "optimizer.clip": real(lambda value: value > 0),
    "optimizer.options.beta1": real(lambda value: 0 <= value < 1),
    "optimizer.options.beta2": real(lambda value: 0 <= value < 1),
    "optimizer.options.eps": real(lambda value: value >= 0),
    "schedule.options.warmup": whole(
        0, must_say=lambda value: r"schedule\.warmup" if value > UPDATES else None
    ),
    "schedule.options.final_fraction": real(lambda value: 0 <= value <= 1),
    "penalty.value": real(
        lambda value: value >= 0,
        nothing=True,
        must_say=lambda value: r"penalty.*\b(above|outweigh)" if value > LOSS else None,
    ),
    "penalty.warmup": whole(
        0, must_say=lambda value: r"penalty\.warmup" if value >= UPDATES else None
    ),
    "penalty.target_steps": Domain(_shortened, _is_target, nothing=True),
}
"""What each flag of the base run takes; by its path in config.json."""


FLAT = ("evaluation", "saving", "limits", "launch")
"""Sections of config.json whose flags have no group."""


def flag_of(path: str) -> str:
    """ "halting.options.bias_init" → "--halting.bias-init"."""
    group, _, name = path.rpartition(".")
    flat = name if group in FLAT else path.replace(".options", "")
    return "--" + flat.replace("_", "-")
