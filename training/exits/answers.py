"""What a run answers to each token of many sequences under an exit, how long it thinks, and what
that computes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from act.accounting.flops import count_flops
from training.exits.exit import Exit
from training.objectives.outcomes import token_losses
from training.runs.loaded import Run
from training.tasks.task import IGNORE, Batch, Task


@dataclass(frozen=True)
class Examples:
    """S sequences of a task, in batches.

    Args:
        batches: in order.
    """

    batches: tuple[Batch, ...]

    @classmethod
    def of(cls, task: Task, split: str, first: int, number: int, batch_size: int) -> "Examples":
        """Examples first .. first + number − 1 of a split."""
        starts = range(first, first + number, batch_size)
        return cls(
            tuple(
                task.batch(split, start, min(batch_size, first + number - start))
                for start in starts
            )
        )

    @property
    def targets(self) -> Int[np.ndarray, "S L"]:
        """The right answers; `IGNORE` where there is no target."""
        return end_to_end([batch.targets.numpy() for batch in self.batches], IGNORE)

    @property
    def has_target(self) -> Bool[np.ndarray, "S L"]:
        """Real tokens that have a target."""
        return end_to_end(
            [(batch.has_target & batch.valid).numpy() for batch in self.batches], False
        )

    @property
    def valid(self) -> Bool[np.ndarray, "S L"]:
        """Real tokens."""
        return end_to_end([batch.valid.numpy() for batch in self.batches], False)

    def fingerprint(self) -> str:
        """A digest of everything that is read and asked, however it is divided into batches."""
        digest = hashlib.sha256()
        for name in self.batches[0].carried():
            if name in ("difficulty", "loss_weights"):  # neither read nor asked
                continue
            parts = [getattr(batch, name) for batch in self.batches]
            digest.update(f"{name} {sum(map(len, parts))} {tuple(parts[0].shape[1:])}".encode())
            for part in parts:
                digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Answers:
    """What S sequences of L positions were answered under one exit, by really running with it.

    Args:
        predictions: [S L] int64.
        nats: [S L] the loss of the right answer, 0 where there is no target.
        steps: [S L] int64, executed steps; 0 on padding.
        flops_once, flops_step: of a token, whatever its steps, and for each of them.
    """

    predictions: Int[np.ndarray, "S L"]
    nats: Float[np.ndarray, "S L"]
    steps: Int[np.ndarray, "S L"]
    flops_once: int
    flops_step: int

    @property
    def mean_steps(self) -> float:
        """Executed steps a real token."""
        return float(self.steps.sum() / max(1, (self.steps > 0).sum()))

    @property
    def flops(self) -> Float[np.ndarray, " S"]:
        """Executed FLOPs of each sequence, by the steps of its tokens."""
        steps = self.steps.astype(np.float64)
        return self.flops_once * (steps > 0).sum(1) + self.flops_step * steps.sum(1)

    @property
    def flops_per_token(self) -> float:
        """Executed FLOPs a real token."""
        return float(self.flops.sum() / max(1, (self.steps > 0).sum()))


@torch.no_grad()
def answer(run: Run, exit_policy: Exit, examples: Examples) -> Answers:
    """Runs the model on the examples with that exit, in evaluation mode. Whatever draws, draws the
    same each time."""
    predictions = []
    nats = []
    steps = []
    devices = [run.device] if run.device.type == "cuda" else []
    with exit_policy.applied_to(run), torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        limit = exit_policy.limit(run)
        for batch in examples.batches:
            output = run.forward(batch, max_steps=limit)
            predictions.append(output.logits.argmax(-1).cpu().numpy())
            losses = token_losses(output.logits, batch.targets.to(run.device))
            nats.append(losses.reshape(batch.targets.shape).double().cpu().numpy())
            steps.append(output.trace.steps.cpu().numpy())
        flops = count_flops(
            run.model, max(batch.targets.shape[1] for batch in examples.batches), inference=True
        )
    found = (end_to_end(parts, 0) for parts in (predictions, nats, steps))
    return Answers(*found, flops_once=flops.once, flops_step=flops.step)


def end_to_end(parts: Sequence[np.ndarray], fill: float) -> np.ndarray:
    """Rows [B L] of batches as one array, shorter ones filled up on the right."""
    length = max(part.shape[1] for part in parts)
    return np.concatenate(
        [
            np.pad(part, ((0, 0), (0, length - part.shape[1])), constant_values=fill)
            for part in parts
        ]
    )
