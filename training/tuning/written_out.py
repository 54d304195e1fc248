"""What a sweep leaves to be read: a table, a picture, a page, and the command that trains the
chosen setting."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from training.console.amounts import short_number
from training.console.command_text import command_text
from training.console.table import markdown
from training.tuning.measured import MeasuredSetting, bend, doubt, front, measured
from training.tuning.pareto_page import pareto_page
from training.tuning.pareto_picture import save_pareto
from training.tuning.space import label
from training.tuning.sweep import Settings, Sweep, setting_of
from training.tuning.trial_budget import TrialBudget

CSV = "trials.csv"
PICTURE = "pareto.png"
PAGE = "pareto.html"
REPORT = "report.md"
_FIGURES = (
    *("accuracy", "sequence_accuracy", "loss", "bits", "mean_steps", "std_steps", "mean_ponder"),
    *("share_at_step_1", "share_at_max", "spearman_steps_difficulty", "flops_per_token"),
    *("collapsed", "updates", "train_seconds", "training_flops"),
)
_HEAD = ("", "setting", "quality", "steps", "FLOPs a token", "Spearman", "at step 1", "seeds", "")


def write_out(sweep: Sweep) -> list[Path]:
    """Writes the files anew; those that were written. Nothing is drawn while nothing is
    measured."""
    with sweep.alone():  # of several processes that end together, one after the other
        return _write_out(sweep)


def _write_out(sweep: Sweep) -> list[Path]:
    settings = measured(sweep)
    texts = {CSV: _csv(sweep)}
    if settings:
        about = sweep.settings()
        compute, compute_name = _compute_axis(settings)
        points = [each.as_point(compute) for each in settings]
        note = noise_note(sweep, settings)
        facts = [*_facts(about), *([] if note is None else [note])]
        names = {"compute_name": compute_name, "accuracy_name": _axis(about)}
        texts[PAGE] = pareto_page(points, f"Sweep of {about.recipe}", facts, **names)
        texts[REPORT] = _report(sweep, settings)
        beside = sweep.folder / f".{PICTURE}"
        save_pareto(points, beside, title=f"Sweep of {about.recipe}", **names)
        beside.replace(sweep.folder / PICTURE)
    for name, text in texts.items():
        beside = sweep.folder / f".{name}"
        beside.write_text(text, encoding="utf-8")
        beside.replace(sweep.folder / name)
    return [sweep.folder / name for name in (*texts, *([PICTURE] if settings else []))]


def table(settings: Sequence[MeasuredSetting], title: str) -> Table:
    """The Pareto table, the cheapest setting first; the knee has a star, what collapsed is
    marked."""
    found = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for name in _HEAD:
        found.add_column(
            name, justify="left" if name in ("", "setting") else "right", no_wrap=name != "setting"
        )
    for cells, style in _rows(settings):
        found.add_row(*cells, style=style)
    return found


def command(sweep: Sweep, what: str = "knee") -> str:
    """What trains a chosen setting."""
    words = [
        "ponder",
        "train",
        sweep.settings().recipe,
        "--from-tune",
        str(sweep.folder),
        "--pick",
        what,
    ]
    return command_text(*words)


def noise_note(sweep: Sweep, settings: Sequence[MeasuredSetting]) -> str | None:
    """That the knee may be noise, where it may, and what tells."""
    says = doubt(settings)
    if says is None:
        return None
    if any(axis.is_range for axis in sweep.axes().values()):
        return f"{says} Several --seeds tell."
    seeds = max(len(each.rows) for each in settings) + 2
    more = command_text("ponder", "tune", "--out", sweep.folder, "--seeds", seeds)
    return f"{says} More seeds tell: {more}"


def _rows(settings: Sequence[MeasuredSetting]) -> list[tuple[tuple[str, ...], str]]:
    """Cells and style of each setting."""
    best = bend(settings)
    unbeaten = front(settings)
    rows = []
    for each in sorted(settings, key=lambda one: one.mean("flops_per_token")):
        rho = each.mean("spearman_steps_difficulty")
        count = len(each.rows)
        marks = (
            [f"collapsed {each.collapsed}/{count}" if count > 1 else "collapsed"]
            if each.collapsed
            else []
        )
        marks += ["knee"] if each is best else []
        cells = (
            "★" if each is best else "✗" if each.collapsed else "•" * (each in unbeaten),
            label(each.point),
            _ranged(each),
            f"{each.mean('mean_steps'):.2f}",
            short_number(each.mean("flops_per_token")),
            "–" if rho != rho else f"{rho:.2f}",
            f"{each.mean('share_at_step_1'):.0%}",
            str(count),
            ", ".join(marks),
        )
        rows.append((cells, "bold green" if each is best else "yellow" if each.collapsed else ""))
    return rows


def _ranged(each: MeasuredSetting) -> str:
    spread = each.spread(each.quality)
    form = ".3f" if each.quality == "bits" else ".2%"
    mean = format(each.mean(each.quality), form)
    return (
        mean
        if spread is None
        else f"{mean} ({format(spread[0], form)} … {format(spread[1], form)})"
    )


def _csv(sweep: Sweep) -> str:
    """A row a trial, in the order of their numbers."""
    names = list(sweep.axes())
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["trial", "state", *names, "seed", *_FIGURES, "says"])
    for trial in sweep.trials():
        (point, seed), about = setting_of(trial), trial.user_attrs
        figures = about.get("figures", {})
        cells = [figures.get(name) for name in _FIGURES]
        says = about.get("failed") or about.get("run_again") or ""
        state = "run again" if "run_again" in about else trial.state.name.lower()
        rows.writerow(
            [trial.number, state, *(point.get(name, "") for name in names), seed, *cells, says]
        )
    return out.getvalue()


def _report(sweep: Sweep, settings: Sequence[MeasuredSetting]) -> str:
    about = sweep.settings()
    counts = sweep.counts()
    rows = [cells for cells, _ in _rows(settings)]
    chosen = bend(settings)
    says = (
        f"The knee is `{label(chosen.point)}`. Train it with the recipe's own updates:"
        if chosen is not None
        else "Every setting collapsed, so there is no knee; lower penalties, or a lower "
        "--halting.bias-init, are next. The best as it is:"
    )
    parts = [
        f"# Sweep of {about.recipe}",
        "\n".join(f"- {line}" for line in _facts(about)),
        f"{counts['done']} trials are done, {counts['waiting'] + counts['working']} are to come, "
        f"{counts['failed']} have failed. Quality is on the validation split; of several seeds: "
        "mean (least … most).",
        markdown([name or "–" for name in _HEAD], [[cell or " " for cell in row] for row in rows]),
        "★ the knee, • on the front, ✗ collapsed: its tokens all stop at one step, under one seed "
        "at least.",
        f"![Accuracy against compute]({PICTURE})",
        f"{says}\n\n```bash\n{command(sweep, 'knee' if chosen is not None else 'best')}\n```",
        *([] if (note := noise_note(sweep, settings)) is None else [f"Note: {note}"]),
        "Go on with the sweep, or add to it: "
        f"`{command_text('ponder', 'tune', '--out', sweep.folder)}`. Each trial is in `{CSV}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _facts(about: Settings) -> list[str]:
    budget = TrialBudget.read(about.budget).in_words() if about.budget else None
    return [
        f"each trial: {budget or 'the updates of the recipe'}",
        f"flags of all: {' '.join(about.fixed) or 'none but those of the recipe'}",
    ]


def _compute_axis(settings: Sequence[MeasuredSetting]) -> tuple[str, str]:
    """What the pictures show compute by: steps, where fewer steps are fewer FLOPs too; else, as
    where the width is swept, FLOPs, by which the front and the knee are told."""
    by_steps = sorted(settings, key=lambda one: one.mean("mean_steps"))
    by_flops = sorted(settings, key=lambda one: one.mean("flops_per_token"))
    if by_steps == by_flops:
        return "mean_steps", "executed steps a token"
    return "flops_per_token", "executed FLOPs a token"


def _axis(about: Settings) -> str:
    return {"bits": "− bits a token", "sequence_accuracy": "accuracy of whole sequences"}.get(
        about.quality, "accuracy"
    )
