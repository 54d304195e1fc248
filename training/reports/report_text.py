"""The halting report as text, as a page in Markdown and as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halting.maps.estimate import Estimate
from training.console.amounts import counted, short_number, three_digits
from training.console.table import aligned, markdown
from training.reports.equal_compute import EqualComputeComparison
from training.reports.halting_report import HaltingReport
from training.reports.picture import Line, save_report_picture
from training.runs.loaded import Run

_NOTES = (
    "at equal compute: as many executed FLOPs a token as the learned rule takes (or the least that "
    "the exit can be\n"
    "had for), between neighbouring settings as a coin would give it; intervals of 95 % over "
    "sequences, those of the\n"
    "gain together."
)
_ROWS = (
    "(random): the learned rule's own steps, dealt to other tokens; the control, whose gain is "
    "what choosing won.\n"
    "(oracle): each token leaves at the first step after which its answer is right and stays "
    "right, as full depth shows it.\n"
    "No rule can know that, and it is never more right than full depth: it says what a better "
    "choice could win, and is\n"
    "not run, so it has no time."
)


def report_text(report: HaltingReport, figures: dict[str, Any]) -> str:
    """The verdict, the table at equal compute and what it means."""
    table = aligned(*_comparisons(report, figures))
    return f"{report.sentence}\n\n{table}\n\n{_NOTES}\n{_ROWS}"


def report_page(
    run: Run, report: HaltingReport, figures: dict[str, Any], picture: str, left_out: Sequence[str]
) -> str:
    """The report in Markdown, beside a picture of that file name."""
    parts = [
        f"# Was learned halting worth it? {Path(run.path).name}",
        f"**{report.sentence}**",
        f"`{run.config.data.kind.rpartition(':')[2]}`, {counted(figures['examples'], 'example')} "
        f"of the {figures['split']} split, {counted(figures['answers'], 'answer')}; "
        f"`{run.config.halting.kind.rpartition(':')[2]}`, at most {figures['max_steps']} steps; "
        f"{figures['device']}, {counted(figures['threads'], 'thread')}.",
        markdown(*_comparisons(report, figures)),
        f"{_NOTES}\n{_ROWS}".replace("\n", " "),
        f"![Accuracy against compute and time]({picture})",
        "## Every setting",
    ]
    head = ("setting", "accuracy", "steps", "FLOPs a token", "µs a token")
    for name, rows in figures["curves"].items():
        lines = [
            (each["setting"], format(Estimate(**each["accuracy"]), ".4f"), *_costs(each))
            for each in rows
        ]
        parts += [f"### {name}", markdown(head, lines)]
    parts += ["\n".join(left_out)] if left_out else []
    return "\n\n".join(parts) + "\n"


def draw_report(path: Path, run: Run, report: HaltingReport, figures: dict[str, Any]) -> None:
    """Accuracy against compute and time, with the verdict."""

    def line(name: str, rows: list[dict[str, Any]], usable: bool) -> Line:
        accuracy, low, high = (
            [row["accuracy"][key] for row in rows] for key in ("value", "low", "high")
        )
        compute = [row["flops_per_token"] for row in rows]
        micros = [row["micros_per_token"] for row in rows if row["micros_per_token"] is not None]
        return Line(name, compute, micros, accuracy, low, high, usable)

    lines = [
        line(curve.name, figures["curves"][curve.name], curve.usable) for curve in report.curves
    ]
    about = [
        run.folder.name,
        run.config.halting.kind.rpartition(":")[2],
        f"{counted(figures['examples'], 'sequence')} of the {figures['split']} split",
        "intervals of 95 % over sequences",
    ]
    trained = line(report.curves[0].name, [figures["trained"]], True)
    save_report_picture(
        path, lines, trained, report.sentence, about, 1 / max(1, figures["answers"])
    )


def _comparisons(
    report: HaltingReport, figures: dict[str, Any]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table at equal compute, and at equal time."""
    own = figures["trained"]
    accuracy = format(Estimate(**own["accuracy"]), ".4f")
    flops = short_number(own["flops_per_token"])
    micros = three_digits(own["micros_per_token"])
    rows: list[tuple[str, ...]] = [
        ("learned, as trained", accuracy, flops, "", accuracy, micros, "")
    ]
    in_time = {each.name: each for each in report.in_time}
    for each in report.comparisons:
        name = each.name if each.usable else f"({each.name})"
        at_flops = (format(each.accuracy, ".4f"), short_number(each.compute), _gain(each))
        at_time = ("–", "–", "–")
        if (timed := in_time.get(each.name)) is not None:
            at_time = (format(timed.accuracy, ".4f"), three_digits(timed.compute), _gain(timed))
        rows.append((name, *at_flops, *at_time))
    head = ("right answers", "at equal compute", "FLOPs a token", "gain of learned, points")
    return (*head, "in equal time", "µs a token", "gain, points"), rows


def _gain(comparison: EqualComputeComparison) -> str:
    gain = comparison.gain
    return format(Estimate(100 * gain.value, 100 * gain.low, 100 * gain.high), "+.2f")


def _costs(row: dict[str, Any]) -> tuple[str, str, str]:
    micros = row["micros_per_token"]
    return (
        f"{row['steps']:.2f}",
        short_number(row["flops_per_token"]),
        "–" if micros is None else three_digits(micros),
    )
