"""Making a ponder map: running the model once over some examples, and keeping what it did with each
token."""

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import torch
from torch import Tensor

from act.models.looped_model import ModelOutput
from halting.maps.ponder_map import PonderMap
from halting.rule import HaltingRule
from halting.trace import PackedSteps
from training.config.run_config import RunConfig
from training.tasks.task import IGNORE, Batch, Task

_MOST_ANSWERS = 1024  # larger vocabularies are not written out


@torch.no_grad()
def record_map(
    forward: Callable[[Batch], ModelOutput],
    rule: HaltingRule,
    task: Task,
    batch: Batch,
    max_steps: int,
    metadata: dict[str, Any],
) -> PonderMap:
    """The ponder map of a batch.

    Args:
        forward: runs the model in evaluation mode; without `record_lens` the map has no predictions
            of single steps.
        rule: the model's, for the depth that it means.
        task: makes token texts.
        batch: the examples, on any device.
        max_steps: N, the step limit that it runs with.
        metadata: what the map is of: the run and its task.
    """
    output = forward(batch)
    trace = output.trace
    score = torch.where(trace.ran, trace.score.float(), torch.nan)
    valid = batch.valid.cpu()
    texts = []
    for tokens, real in zip(batch.tokens.tolist(), valid.tolist(), strict=True):
        shown = iter(
            task.decode([token for token, is_real in zip(tokens, real, strict=True) if is_real])
        )
        texts.append([next(shown) if is_real else "" for is_real in real])
    about = {
        "rule": type(rule).__name__,
        "max_steps": max_steps,
        "difficulty_name": task.difficulty_name,
        "date": date.today().isoformat(),
        "answers": task.decode(list(range(task.vocab_size)))
        if task.vocab_size <= _MOST_ANSWERS
        else [],
    }
    return PonderMap(
        # A vector is no token: its text says what it is.
        tokens=(batch.tokens if batch.tokens.dim() == 2 else torch.zeros_like(batch.targets))
        .cpu()
        .numpy(),
        texts=texts,
        valid=valid.numpy(),
        steps=trace.steps.cpu().numpy(),
        ponder=rule.ponder(trace).cpu().numpy(),
        mass=_longer(trace.mass.float(), max_steps, 0.0),
        score=_longer(score, max_steps, torch.nan),
        **({} if output.step_logits is None else read_lens(output.step_logits, batch, max_steps)),
        targets=batch.targets.cpu().numpy(),
        final_prediction=output.logits.argmax(-1).cpu().numpy(),
        difficulty=batch.difficulty.cpu().numpy(),
        metadata={**about, **metadata},
    )


def read_lens(packed: PackedSteps, batch: Batch, max_steps: int) -> dict[str, np.ndarray]:
    """What was answered had it stopped at each step, as the arrays of a map: predictions,
    confidence and target_probability [B L N].

    Args:
        packed: the logits of every executed step.
        batch: the examples.
        max_steps: N.
    """
    probabilities = packed.values.float().softmax(-1)
    confidence, predictions = probabilities.max(-1)
    wanted = batch.targets.flatten().to(packed.index.device)[packed.index]
    right = probabilities.gather(-1, wanted.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    parts: dict[str, tuple[Tensor, float | int]] = {
        "predictions": (predictions, -1),
        "confidence": (confidence, torch.nan),
        "target_probability": (torch.where(wanted == IGNORE, torch.nan, right), torch.nan),
    }
    rows, length = batch.targets.shape
    return {
        name: packed.unpack(values, rows, length, max_steps, fill).cpu().numpy()
        for name, (values, fill) in parts.items()
    }


def about_run(config: RunConfig, name: str) -> dict[str, Any]:
    """The metadata of a run's map.

    Args:
        config: of the run.
        name: of its folder.
    """
    return {
        "run": name,
        "task": config.data.kind.rpartition(":")[2],
        "rule": config.halting.kind.rpartition(":")[2],
    }


def _longer(values: Tensor, max_steps: int, fill: float) -> np.ndarray:
    """[B L n] as [B L N]."""
    missing = max_steps - values.shape[-1]
    return torch.nn.functional.pad(values, (0, missing), value=fill).cpu().numpy()
