"""report.md: a run told on one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.config.run_config import RunConfig
from training.console.amounts import counted, in_seconds
from training.console.command_text import command_text
from training.console.table import markdown
from training.evaluation.tally import rank_correlation_of_steps
from training.runs import metrics
from training.runs.rank_report import RankReport
from training.runs.text_report import text_told


def run_report(
    config: RunConfig, summary: dict[str, Any], folder: Path, launcher: Sequence[str] = ()
) -> str:
    """The page, in Markdown.

    Args:
        config: of the run.
        summary: its final figures.
        folder: the run folder, whose metrics hold the warnings.
        launcher: deepspeed's own words, where it started the run.
    """
    difficulty = summary["difficulty"] or "difficulty"
    parts = [
        f"# {folder.name}",
        f"`{config.data.kind}` learned by a looped Transformer that halts by "
        f"`{config.halting.kind}`, at most {config.loop.max_steps} steps a token. Figures are on "
        "the test split, which training never saw.",
        markdown(("figure", "value"), _figures(summary)),
        "![The ponder map](ponder_map.png)",
    ]
    if len(summary.get("loss_by_step", ())) > 1:
        parts += ["## Loss by step", *_by_step(summary)]
    if "text" in summary:
        parts += ["## Bits a byte", *text_told(summary["text"])]
    if summary["steps_by_difficulty"]:
        parts += [
            f"## Steps by {difficulty}",
            _by_difficulty(summary, difficulty),
            _agreement_in_words(summary, difficulty),
        ]
    if "budget" in summary:
        parts += ["## Target", target_told(summary["budget"]).capitalize() + "."]
    if "by_rank" in summary:
        parts += ["## Ranks", *_by_rank(RankReport(**summary["by_rank"]))]
    parts += ["## Warnings", _warnings(folder)]
    parts += [
        "## How to make it again",
        f"```bash\n{command_again(config, folder, summary['ranks'], launcher)}\n```",
        *_config_changed(folder),
        f"torch {torch.__version__}, {counted(torch.get_num_threads(), 'thread')}, "
        f"{counted(summary['ranks'], 'rank')}. "
        "Every value is in `config.json`, every update in `metrics.jsonl`.",
    ]
    return "\n\n".join(parts) + "\n"


def command_again(
    config: RunConfig, folder: Path, ranks: int = 1, launcher: Sequence[str] = ()
) -> str:
    """What to type to make a run again, its losses bit for bit the same, in a folder of its own.

    Args:
        config: of the run.
        folder: the run folder.
        ranks: how many trained it.
        launcher: deepspeed's own words, where it started the run.
    """
    words = ["ponder", "train"]
    if launcher or ranks > 1:
        words = ["deepspeed", *(launcher or ("--num_gpus", str(ranks)))]
        words += ["--module", "training.train"]
    words += ["--config", str(folder / "config.json")]
    if config.name is not None:
        words += ["--name", f"{config.name}-again"]
    return command_text(*words)


def _config_changed(folder: Path) -> list[str]:
    """A sentence for a run whose config was changed when it went on."""
    before = sorted(path.name for path in folder.glob("config.before-*.json"))
    if not before:
        return []
    return [
        f"The run went on with another config than it began with ({', '.join(before)}); the "
        "command trains by the last one from the start, so it is not the same run."
    ]


def _figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("accuracy, tokens", f"{summary['accuracy']:.4f}"),
        ("accuracy, whole sequences", f"{summary['sequence_accuracy']:.4f}"),
        ("loss, nats a token", f"{summary['loss']:.4f}"),
        ("bits a token", f"{summary['bits']:.4f}"),
        *([("bits a byte", f"{text:.4f}")] if (text := summary.get("bits_per_byte")) else []),
        ("executed steps, mean", f"{summary['mean_steps']:.3f} of {summary['max_steps']}"),
        ("executed steps, standard deviation", f"{summary['std_steps']:.3f}"),
        ("ponder, mean", f"{summary['mean_ponder']:.3f}"),
        ("left at step 1", f"{summary['share_at_step_1']:.1%}"),
        ("ran to the limit", f"{summary['share_at_max']:.1%}"),
        ("parameters", f"{summary['parameters']:,}"),
        ("updates", f"{summary['updates']:,}"),
        ("of them skipped: loss or gradient not finite", f"{summary['skipped_updates']:,}"),
        ("training", in_seconds(summary["train_seconds"])),
    ]
    if (best := summary.get("best")) and best["update"] is not None:
        rows.append((f"best {best['by']} of the evaluations", _best_told(best)))
    return rows


def _best_told(best: dict[str, Any]) -> str:
    return f"{best['value']:.6g} at update {best['update']}: `RUN@best`"


def _by_step(summary: dict[str, Any]) -> list[str]:
    """A row a step, and what it means."""
    losses = summary["loss_by_step"]
    text = summary.get("bits_per_byte_by_step")
    name, values = ("nats a token", losses) if text is None else ("bits a byte", text)
    rows = [
        (str(step), f"{value:.4f}", "" if step == 1 else f"{value - values[step - 2]:+.4f}")
        for step, value in enumerate(values, start=1)
    ]
    return [
        markdown(("step", name, "against the step before"), rows),
        "The loss had no token gone beyond that step (who leaves before it has left), on "
        f"{counted(summary['by_step_examples'], 'example')} of the test split.",
    ]


def _by_difficulty(summary: dict[str, Any], difficulty: str) -> str:
    accuracy = summary["accuracy_by_difficulty"]
    rows = [
        (
            level,
            f"{steps:.2f}",
            "–" if accuracy[level] != accuracy[level] else f"{accuracy[level]:.4f}",
        )
        for level, steps in summary["steps_by_difficulty"].items()
    ]
    return markdown((difficulty, "mean steps", "accuracy"), rows)


def _agreement_in_words(summary: dict[str, Any], difficulty: str) -> str:
    over, rho = rank_correlation_of_steps(summary)
    if rho is None:
        return "Steps or difficulty do not vary, so that no rank correlation is defined."
    if rho >= 0.5:
        told = "the model thinks longer where it is harder"
    elif rho > 0.1:
        told = "the model thinks only somewhat longer where it is harder"
    else:
        told = "**the steps do not follow the difficulty**"
    return f"Rank correlation of steps and {difficulty} over {over}: {rho:.3f}; {told}."


def _by_rank(ranks: RankReport) -> list[str]:
    columns = zip(ranks.mean_steps, ranks.tokens, ranks.computing, ranks.waiting, strict=True)
    rows = [
        (
            str(number),
            f"{steps:.3f}",
            f"{tokens:,.0f}",
            *("–" if s != s else f"{s:,.1f}" for s in seconds),
        )
        for number, (steps, tokens, *seconds) in enumerate(columns)
    ]
    return [
        markdown(("rank", "steps a token", "tokens", "seconds computing", "waiting"), rows),
        f"Token-steps are even to {ranks.evenness:.1%}: the mean rank's ÷ those of the rank that "
        "had most, in each update. What is lost by that, `--balance-by ponder` wins back in part.",
    ]


def target_told(budget: dict[str, Any]) -> str:
    """What became of a target for the mean ponder, in words."""
    if budget["held"] is None:
        return f"{budget['target_steps']:g} steps; {budget['says']}"
    unseen = budget["unseen"]
    at = "" if budget["kept_says"] is None else f" {budget['kept_says']}"
    in_training = budget["in_training"] / budget["target_steps"] - 1
    told = (
        f"{budget['target_steps']:g} steps; {(1 + unseen) * budget['target_steps']:.2f} "
        f"({unseen:+.1%}) on unseen examples{at}; {budget['in_training']:.2f} ({in_training:+.1%}) "
        f"in training over its last quarter, with {budget['knob']} {budget['knob_at_end']:.3g} at "
        "the end"
    )
    if budget["knob"] == "penalty" and budget["knob_at_end"] < 0:
        told += ", below zero: by itself the task takes fewer steps, and they were paid for"
    return told if budget["says"] is None else f"{told}; {budget['says']}"


def _warnings(folder: Path) -> str:
    lines = [
        f"- update {line['update']}: {line.get('says')}"
        for line in metrics.read_metrics(folder, "warning")
    ]
    return "\n".join(lines) or "None."
