"""The end of a run: figures on unseen examples, weights to use, the ponder map, the report."""

import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from halting.errors import UsageError
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.page import page
from halting.maps.viewers.picture import map as picture
from halting.maps.viewers.terminal import map as terminal
from training.build import Built
from training.checkpoints import manifest
from training.checkpoints.checkpoint import PARTIAL
from training.checkpoints.progress import Progress
from training.config.run_config import RunConfig
from training.console.amounts import counted
from training.console.command_text import command_text
from training.console.output_files import new_file, write_text
from training.console.screen import Screen, clock
from training.distributed import collectives
from training.distributed.launcher_watch import LauncherWatch
from training.evaluation.evaluate import evaluate
from training.evaluation.step_losses import SHARE, step_losses
from training.evaluation.tally import Tally, rank_correlation_of_steps
from training.evaluation.text_losses import TextLosses
from training.runs.context import TrainingContext
from training.runs.growth import MAP_EXAMPLES, grown, read_growth, record
from training.runs.metrics import to_json
from training.runs.next_commands import next_commands
from training.runs.rank_report import RankReport
from training.runs.report import run_report, target_told
from training.runs.within_budget import KeptModel, take_within_budget

_HELD = 0.02  # a model that is kept within it has its target, whatever training came to


def finish(context: TrainingContext) -> dict[str, Any]:
    """Writes summary.json, final/, ponder_map.* and report.md, and says what was found; called by
    all ranks.

    Returns:
        the summary.
    """
    config = context.config
    built = context.built
    engine = context.engine
    folder = context.folder
    screen = context.screen
    progress = context.progress
    screen.progress("testing …")
    micro_batch = max(1, config.batch_size // (collectives.world_size() * config.accumulation))
    kept = take_within_budget(context)
    count = config.evaluation.test_examples
    text = TextLosses(built.task, "test")
    tally = evaluate(engine, built.task, "test", count, micro_batch, text=text)
    told = text.over_ranks().figures()
    _check_finite(tally, context)
    by_step = step_losses(engine, built.task, "test", -(-count // SHARE), micro_batch)
    examples = min(MAP_EXAMPLES, count)
    found = record(config, engine, built.task, folder.name, examples, progress.update)
    screen.clear()
    summary = summarise(config, built, progress, tally)
    if by_step is not None:
        summary |= {**by_step.figures(), "by_step_examples": by_step.examples}
    summary |= {"text": told} if told else {}
    if budget := built.penalty.summary():
        unseen = summary["mean_ponder"] / budget["target_steps"] - 1
        summary["budget"] = {
            **budget,
            "says": None if kept is not None and abs(unseen) <= _HELD else budget["says"],
            "kept": None if kept is None else asdict(kept),
            "kept_says": None if kept is None else kept.says(),
            "unseen": unseen,
        }
    first = collectives.rank() == 0
    _write_final(context, kept)
    if first:
        if (ranks := RankReport.over_run(folder)) is not None:
            summary["by_rank"] = ranks.values()
        launcher = LauncherWatch.of_this_process().words
        found.save(folder / "ponder_map")
        latest, before = grown(found, read_growth(folder)[0])
        write_text(folder / "ponder_map.html", page.to_html(latest, growth=before))
        with new_file(folder / "ponder_map.png") as beside:
            picture.save_map_picture(found, beside)
        write_text(folder / "report.md", run_report(config, summary, folder, launcher))
        write_text(folder / "summary.json", to_json(summary, indent=2) + "\n")
        context.metrics.write("test", progress.update, **tally.figures())
        _say(screen, summary, found, folder)
    collectives.barrier()
    return summary


def _write_final(context: TrainingContext, kept: KeptModel | None) -> None:
    """Writes final/ beside its place, with its checksums, and puts it there; called by all ranks.
    What stands beside the weights of an earlier end, such as a guarantee, moves along."""
    first = collectives.rank() == 0
    final = context.folder / "final"
    partial = context.folder / f"{PARTIAL}final"
    if first:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        config = context.config if kept is None else kept.config(context.config)
        write_text(partial / "config.json", config.to_json())
    collectives.barrier()
    context.engine.save_weights(partial)
    manifest.write(partial)
    if first:
        replaced = context.folder / ".replaced-final"
        if final.exists():
            for path in final.iterdir():
                if not (partial / path.name).exists():
                    path.rename(partial / path.name)
            final.rename(replaced)
        partial.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)


def _check_finite(tally: Tally, context: TrainingContext) -> None:
    """Refuses to write down what a diverged model answers."""
    loss = tally.figures()["loss"]
    if math.isfinite(loss):
        return
    update = context.progress.update
    raise UsageError(
        f"The training diverged: after update {update} the loss on the test's examples is {loss}.",
        "The weights, or the states that they make, came to be no numbers; there is nothing to "
        "test or to draw.",
        "Go on from an earlier checkpoint with smaller steps: "
        f"{command_text('ponder', 'train', '--resume', context.folder)}@UPDATE "
        "--optimizer.learning-rate "
        f"{context.config.optimizer.learning_rate / 3:.1g}.",
    )


def summarise(config: RunConfig, built: Built, progress: Progress, tally: Tally) -> dict[str, Any]:
    """The final figures, on the test split."""
    figures = tally.figures()
    by_difficulty = tally.by_difficulty()
    return {
        "recipe": config.recipe,
        "updates": progress.update,
        "skipped_updates": progress.skipped,
        "examples": progress.examples,
        "train_seconds": round(progress.train_seconds, 2),
        "training_flops": progress.flops,
        "parameters": sum(getattr(p, "ds_numel", p.numel()) for p in built.model.parameters()),
        "max_steps": config.loop.max_steps,
        **figures,
        "best": progress.best_checkpoint,
        "best_validation_accuracy": progress.best,
        "steps_by_difficulty": {
            difficulty: row["steps"] for difficulty, row in by_difficulty.items()
        },
        "accuracy_by_difficulty": {
            difficulty: row["accuracy"] for difficulty, row in by_difficulty.items()
        },
        "difficulty": built.task.difficulty_name,
        "ranks": collectives.world_size(),
    }


def _say(screen: Screen, summary: dict[str, Any], found: PonderMap, folder: Path) -> None:
    screen.say()
    screen.say(
        terminal.render(
            found,
            1,
            width=screen.width,
            colour=screen.colour,
            ascii_only=not screen.unicode,
            heading=False,
        )
    )
    over, rho = rank_correlation_of_steps(summary)
    agreement_says = "not defined" if rho is None else f"{rho:.2f} (Spearman, over {over})"
    rows = (
        (
            "accuracy",
            f"{summary['accuracy']:.2%} of tokens, {summary['sequence_accuracy']:.2%} of "
            "sequences, unseen",
        ),
        ("loss", f"{summary['loss']:.4f} nats a token ({summary['bits']:.3f} bits)"),
        *([("text", f"{text:.4f} bits a byte")] if (text := summary.get("bits_per_byte")) else []),
        (
            "steps",
            f"{summary['mean_steps']:.2f} of {summary['max_steps']} executed, deviation "
            f"{summary['std_steps']:.2f}",
        ),
        ("ponder", f"{summary['mean_ponder']:.2f} steps a token, as the rule means it"),
        *([("target", target_told(summary["budget"]))] if "budget" in summary else []),
        (f"steps by {summary['difficulty'] or 'difficulty'}", agreement_says),
        (
            "trained",
            f"{counted(summary['updates'], 'update')} in {clock(summary['train_seconds'])}"
            f"{_skipped(summary)}",
        ),
    )
    width = max(len(name) for name, _ in rows)
    screen.say("\n" + "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows))
    if (best := summary["best"]) and best["update"] is not None:
        screen.say(
            f"\nbest {best['by']} of the evaluations: {best['value']:.6g} at update "
            f"{best['update']}, kept as {folder}@best"
        )
    written = "summary.json report.md ponder_map.{npz,json,html,png} final/ metrics.jsonl"
    screen.say(f"\nwritten to {folder}: {written}", always=True)
    screen.say("\n  ".join(["next:", *next_commands(folder, summary)]))


def _skipped(summary: dict[str, Any]) -> str:
    return (
        f", {summary['skipped_updates']:,} of them skipped: not finite"
        if summary["skipped_updates"]
        else ""
    )
