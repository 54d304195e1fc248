"""`ponder eval`: accuracy against steps on unseen examples, by any exit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from training.console.amounts import counted
from training.console.examples_flag import check_examples_flag
from training.console.flag_values import check_counts
from training.console.output_files import check_outputs, write_text
from training.console.table import aligned
from training.evaluation.tally import Tally, rank_correlation_of_steps
from training.evaluation.text_losses import TextLosses
from training.exits.calibrated import exit_of
from training.exits.evaluate_exit import evaluate_exit
from training.exits.exit import parse_exit
from training.exits.guarantee import CALIBRATED, DEFAULT, Guarantee, read_guarantee
from training.runs.loaded import Run, load_run, newest_run
from training.runs.metrics import to_json
from training.runs.text_report import documents_told, text_table, whole_told


@dataclass(frozen=True)
class Options:
    """Accuracy against steps on unseen examples."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """run folder, or one of its checkpoints; the newest run if left out"""
    exit: tuple[str, ...] = ()
    """how tokens leave; learned if left out, and calibrated beside it where there is a guarantee.
    One or several of learned (the trained rule), learned:q=0.7 (with another option),
    fixed:8 (all at one step),
    convergence, convergence:1e-3, convergence:kl:5e-4
    (what settles: state, cosine, entropy, kl, argmax),
    confidence, confidence:0.9, confidence:gap:0.5
    (what is sure: max, gap, entropy),
    calibrated, calibrated:NAME
    (as ponder calibrate found)"""
    by: Literal["difficulty", "position", "type", "document"] | None = None
    """a table of steps and accuracy at each difficulty; of text, bits a byte and steps by place in
    the document, by kind of token, or how documents differ"""
    split: Literal["train", "validation", "test"] = "test"
    """which examples"""
    examples: int | None = None
    """how many; as many as the run's own test if left out"""
    batch_size: int = 64
    """examples computed at once"""
    allow_changed_data: bool = False
    """examples may come from other files than the run was trained on"""
    json: Path | None = None
    """write the figures"""
    overwrite: bool = False
    """replace a file that is there already"""


def main(argv: Sequence[str]) -> int:
    """Evaluates; gives the exit code."""
    check_examples_flag(argv, "eval")
    options = tyro.cli(Options, args=list(argv), prog="ponder eval", description=Options.__doc__)
    for spec in options.exit:
        if not is_calibrated(spec):
            parse_exit(spec)
    check_counts(examples=options.examples, batch_size=options.batch_size)
    check_outputs(options.json, overwrite=options.overwrite)
    run = load_run(
        Path(options.run) if options.run is not None else newest_run(),
        allow_changed_data=options.allow_changed_data,
    )
    guarantees = guarantees_of(run, options.exit)
    exits = [exit_of(run, spec) for spec in dict.fromkeys(options.exit or ("learned", *guarantees))]
    num_examples = options.examples or run.config.evaluation.test_examples
    texts = {each.name: TextLosses(run.task, options.split) for each in exits}
    tallies = {
        each.name: evaluate_exit(
            run, each, options.split, num_examples, options.batch_size, texts[each.name]
        )
        for each in exits
    }
    told = {name: figures for name, text in texts.items() if (figures := text.figures())}
    print(f"{run.path}, {options.split} split, {counted(num_examples, 'example')}\n")
    print(exits_table(tallies))
    for name, guarantee in guarantees.items():
        print(f"\n{name} is {guarantee.exit}. {guarantee.in_words()}")
    for name, figures in told.items():
        print(f"\n{name}: {whole_told(figures)}")
    if options.by == "difficulty":
        print("\n" + difficulty_table(tallies, run.task.difficulty_name))
    elif options.by is not None:
        print("\n" + text_tables(told, options.by))
    if options.json is not None:
        rows = [
            {
                "exit": name,
                **tally.figures(),
                "by_difficulty": tally.by_difficulty(),
                **({"text": told[name]} if name in told else {}),
            }
            for name, tally in tallies.items()
        ]
        write_text(options.json, to_json(rows, indent=2) + "\n")
        print(f"\nwrote {options.json}")
    return 0


def is_calibrated(spec: str) -> bool:
    """Whether an exit stands for that of a guarantee."""
    return spec.partition(":")[0] == CALIBRATED


def guarantees_of(run: Run, specs: Sequence[str]) -> dict[str, Guarantee]:
    """The guarantees of the calibrated exits among these; where none is asked for, the run's own,
    if it has one."""
    wanted = [spec for spec in specs if is_calibrated(spec)] if specs else [CALIBRATED]
    found = {}
    for spec in wanted:
        name = spec.partition(":")[2]
        guarantee = read_guarantee(run.weights, name or DEFAULT)
        if guarantee is not None:
            found[spec] = guarantee
    return found


def exits_table(tallies: dict[str, Tally]) -> str:
    """A row an exit. Executed steps are compute; ponder is the depth that the rule means."""
    rows = []
    for name, tally in tallies.items():
        figures = tally.figures()
        over, rho = rank_correlation_of_steps(figures)
        rows.append(
            (
                name,
                f"{figures['accuracy']:.2%}",
                f"{figures['sequence_accuracy']:.2%}",
                f"{figures['loss']:.4f}",
                f"{figures['mean_ponder']:.2f}",
                f"{figures['mean_steps']:.2f}",
                "–" if rho is None else f"{rho:.2f} ({over})",
            )
        )
    return aligned(("exit", "tokens", "sequences", "loss", "ponder", "executed", "spearman"), rows)


def difficulty_table(tallies: dict[str, Tally], difficulty_name: str | None) -> str:
    """A row a difficulty, with steps and accuracy of each exit; ten groups where there are many
    difficulties."""
    found = {name: tally.by_difficulty() for name, tally in tallies.items()}
    levels = list(next(iter(found.values())))
    if not levels:
        return "The task names no difficulty for its tokens."
    head = [difficulty_name or "difficulty", "tokens"]
    for name in found:
        head += [f"{name}: steps", "right"]
    rows = []
    for level in levels:
        row = [level, f"{next(iter(found.values()))[level]['tokens']:,.0f}"]
        for by in found.values():
            right = by[level]["accuracy"]
            row += [f"{by[level]['steps']:.2f}", "–" if right != right else f"{right:.1%}"]
        rows.append(row)
    return aligned(head, rows)


def text_tables(told: dict[str, dict[str, Any]], by: str) -> str:
    """What the text cost under each exit, by position, type or document."""
    if not told:
        return "The answers of the task are no text."
    if by == "document":
        return "\n".join(f"{name}: {documents_told(each)}" for name, each in told.items())
    return "\n\n".join(f"{name}\n{aligned(*text_table(each, by))}" for name, each in told.items())
