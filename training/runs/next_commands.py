"""What to type after a training: commands that suit its task and its steps, to be pasted."""

from pathlib import Path
from typing import Any

from training.console.command_text import command_text


def next_commands(folder: Path, summary: dict[str, Any]) -> list[str]:
    """Three commands for a run that has ended.

    Args:
        folder: of the run.
        summary: its final figures, as summary.json has them.
    """
    limit = summary["max_steps"]
    half = min(limit, max(1, round(summary["mean_steps"])))
    by = ("--by", "difficulty") if summary["steps_by_difficulty"] else ()
    exits = ("--exit", "learned", f"fixed:{half}")
    return [
        command_text("ponder", "show", folder),
        command_text("ponder", "eval", folder, *by, *exits),
        command_text("ponder", "ablate", folder, "--steps", *_depths(limit)),
    ]


def _depths(limit: int, most: int = 6) -> list[int]:
    """1, 2, 4 … and the step limit itself: of many, the deepest."""
    doubled = [2**power for power in range(limit.bit_length()) if 2**power < limit]
    return [*doubled, limit][-most:]
