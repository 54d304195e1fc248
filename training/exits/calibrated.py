"""Exits of a run by the words that name them, the calibrated ones of its guarantees among them."""

from dataclasses import replace

from halting.errors import UsageError
from training.console.command_text import command_text
from training.exits.exit import Exit, parse_exit
from training.exits.guarantee import CALIBRATED, DEFAULT, place, read_guarantee
from training.runs.loaded import Run


def apply_exit(run: Run, spec: str) -> Run:
    """From now on the tokens of the run's model leave this way; gives the run itself.

    Args:
        run: of `load_run`.
        spec: the exit as `ponder eval --exit` takes it, such as "calibrated" or "fixed:8".

    Raises:
        UsageError: as `exit_of`, and for an exit that the model cannot take.
    """
    exit_of(run, spec).apply_to(run)
    return run


def exit_of(run: Run, spec: str) -> Exit:
    """The exit that `parse_exit` reads; and for "calibrated", or "calibrated:NAME", that of the
    guarantee of this name beside the run's weights.

    Raises:
        UsageError: as `parse_exit`, and where there is no such guarantee.
    """
    kind, _, name = spec.partition(":")
    if kind != CALIBRATED:
        return parse_exit(spec)
    found = read_guarantee(run.weights, name or DEFAULT)
    if found is None:
        raise UsageError(
            f"--exit {spec}: there is no {place(run.weights, name or DEFAULT)}.",
            "An exit is calibrated once ponder calibrate has shown how much it may lose.",
            "Calibrate first: "
            + command_text("ponder", "calibrate", run.path, *(("--name", name) if name else ())),
        )
    return replace(parse_exit(found.exit), name=spec)
