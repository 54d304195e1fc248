"""The `ponder` command: one verb an entry."""

import importlib
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from difflib import get_close_matches

from training.console.entry import run_entry
from training.console.steady_output import replace_unknown_characters
from training.distributed.process_end import end_process
from training.distributed.stop_request import heard_from_the_start

VERBS = {
    "train": ("training.train", "train a recipe, or go on with a run (--resume RUN)"),
    "data": (
        "training.cli.data",
        "texts to folders of tokens (prepare), and what is in them (show)",
    ),
    "tune": (
        "training.cli.tune",
        "many short trainings: accuracy against compute over penalties, and which to take",
    ),
    "launch": (
        "training.cli.launch",
        "deepspeed, started again from the last whole checkpoint when a job dies",
    ),
    "show": ("training.cli.show", "the ponder map of a run: who thought how long"),
    "compare": (
        "training.cli.compare",
        "runs, or checkpoints (RUN@500), on the same examples: where they differ",
    ),
    "serve": (
        "training.cli.serve",
        "a page to type texts into, and their maps as JSON; for this machine alone",
    ),
    "eval": (
        "training.cli.evaluate",
        "accuracy against steps, by difficulty: the learned exit, others, fixed depths",
    ),
    "ablate": (
        "training.cli.ablate",
        "a trained run at fixed depths: where more steps help, stop helping, hurt",
    ),
    "calibrate": (
        "training.cli.calibrate",
        "the cheapest exit whose loss of quality is bounded, with a stated confidence",
    ),
    "report": (
        "training.cli.report",
        "was learned halting worth it? against other exits, at equal compute",
    ),
    "profile": (
        "training.cli.profile_run",
        "a run's FLOPs and time, where they go, what halting and packing save",
    ),
    "export": (
        "training.cli.export",
        "a run's weights as files for elsewhere, the same whatever ranks and stage trained it",
    ),
    "recipes": ("training.cli.list_recipes", "what can be trained, and what it teaches"),
    "doctor": (
        "training.cli.doctor",
        "versions, device, DeepSpeed: what works here, what doesn't, and the fix",
    ),
}
_LONG = ("train", "data", "tune", "launch", "serve")
_HEARD = ("train", "launch")


_TAKE_IT_THEMSELVES = ("train", "launch")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; gives the exit code, or ends the process with it where `argv` is None."""
    replace_unknown_characters()
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("-h", "--help"):
        return run_entry(_print_help, given)
    if given[0] in ("-V", "--version"):
        print(f"ponder {_version()}")
        return 0
    verb, *rest = given
    if verb not in VERBS:
        near = get_close_matches(verb, VERBS, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        print(f"error: there is no verb {verb}.{meant}\n\n{_help()}", file=sys.stderr)
        return 2
    with heard_from_the_start() if argv is None and verb in _HEARD else nullcontext():
        code = run_entry(lambda given: _run(verb, given), rest, is_long=verb in _LONG)
    if argv is None:
        end_process(code)
    return code


def _run(verb: str, words: Sequence[str]) -> int:
    """A verb. `--trust-code` belongs to all that read a run; what is trained takes it itself."""
    if verb not in _TAKE_IT_THEMSELVES:
        from training.config import code_trust  # late: the names of the verbs need nothing

        words, trusts = code_trust.take_flag(words)
        with code_trust.trusting(trusts):
            return importlib.import_module(VERBS[verb][0]).main(words)
    return importlib.import_module(VERBS[verb][0]).main(words)


def _version() -> str:
    from importlib import metadata  # late: only here

    try:
        return metadata.version("ponderloop")
    except metadata.PackageNotFoundError:
        return "from a clone, not installed"


def _print_help(given: Sequence[str]) -> int:
    print(_help())
    return 0


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name.ljust(width)}  {says}" for name, (_, says) in VERBS.items())
    return (
        f"usage: ponder VERB …   (ponder VERB --help tells its flags; ponder --version)\n\n{verbs}"
        "\n\n--trust-code, with any verb: run the code outside of installed packages that "
        "somebody's run names"
    )


if __name__ == "__main__":
    sys.exit(main())
