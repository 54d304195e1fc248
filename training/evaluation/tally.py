"""Counts over tokens that add up over batches and ranks, and the figures they give."""

import math

import torch
from torch import Tensor

from act.models.looped_model import ModelOutput
from halting.rule import HaltingRule
from training.distributed import collectives
from training.evaluation.rank_correlation import rank_correlation
from training.objectives.outcomes import token_losses
from training.tasks.task import Batch

MAX_DIFFICULTY = 255
_PONDER_GRID = 16  # a rule's own depth need not be whole: it is counted in sixteenths of a step
_SUMS = (
    "targets",
    "loss",
    "correct",
    "sequences",
    "sequences_correct",
    "valid",
    "ponder",
    "rows",
    "as_one",
    "entropy",
    "weight",
    "bytes",
    "nats",
    "ponder_ponder",
    "ponder_tokens",
    "tokens_tokens",
)


class Tally:
    """Everything that a figure is made of, as sums: so batches, micro-batches and ranks just add.

    Args:
        max_steps: N, the largest step count that can occur.
    """

    def __init__(self, max_steps: int):
        self.max_steps = max_steps
        self.sums = torch.zeros(len(_SUMS), dtype=torch.float64)
        self.steps = torch.zeros(max_steps + 1, dtype=torch.float64)
        self.joint = torch.zeros(MAX_DIFFICULTY + 1, max_steps + 1, dtype=torch.float64)
        self.ponder_joint = torch.zeros(
            MAX_DIFFICULTY + 1, max_steps * _PONDER_GRID + 1, dtype=torch.float64
        )
        self.sequences_joint = torch.zeros(MAX_DIFFICULTY + 1, max_steps + 1, dtype=torch.float64)
        self.targets_at = torch.zeros(MAX_DIFFICULTY + 1, dtype=torch.float64)
        self.correct_at = torch.zeros(MAX_DIFFICULTY + 1, dtype=torch.float64)

    @torch.no_grad()
    def add(
        self,
        output: ModelOutput,
        batch: Batch,
        rule: HaltingRule,
        target_bytes: Tensor | None = None,
    ) -> Tensor:
        """Counts one batch; gives its predictions [B L].

        Args:
            output: what the model said.
            batch: the examples.
            rule: that it halted by.
            target_bytes: [B L], the bytes of text that each target stands for; None: it is none.
        """
        if output.answers is None:
            prediction = output.logits.argmax(-1)
            losses = token_losses(output.logits, batch.targets).double()
        else:
            prediction = output.answers.predictions
            losses = output.answers.losses.double()
        nats = losses.sum()
        has_target = batch.has_target
        steps = output.trace.steps
        correct = (prediction == batch.targets) & has_target
        right_rows = (correct | ~has_target).all(1) & has_target.any(1)
        ponder = rule.ponder(output.trace)
        if batch.loss_weights is not None:
            losses = losses * batch.loss_weights
        of_rows = torch.where(batch.valid, ponder, 0.0).double().sum(1)  # [B]
        tokens = batch.valid.double().sum(1)
        slowest = steps.amax(1)
        fastest = torch.where(batch.valid, steps, self.max_steps).amin(1)
        values = (
            has_target.sum(),
            losses.sum(),
            correct.sum(),
            has_target.any(1).sum(),
            right_rows.sum(),
            batch.valid.sum(),
            of_rows.sum(),
            batch.valid.any(1).sum(),
            (batch.valid.any(1) & (slowest == fastest)).sum(),
            -torch.xlogy(output.trace.mass, output.trace.mass).double().sum(),
            batch.target_weight,
            nats.new_zeros(()) if target_bytes is None else target_bytes.sum(),
            nats,
            (of_rows * of_rows).sum(),
            (of_rows * tokens).sum(),
            (tokens * tokens).sum(),
        )
        self.sums += torch.stack([value.double().cpu() for value in values])
        self.steps += torch.bincount(steps[batch.valid].cpu(), minlength=self.max_steps + 1)
        known = batch.valid & ~batch.difficulty.isnan()
        if bool(known.any()):
            difficulty = batch.difficulty[known].round().long().clamp(0, MAX_DIFFICULTY).cpu()
            _count_pairs(self.joint, difficulty, steps[known].cpu())
            _count_pairs(
                self.ponder_joint, difficulty, (ponder[known] * _PONDER_GRID).round().long().cpu()
            )
            rows = known.any(1)
            hardest = (
                torch.where(known, batch.difficulty, 0.0)
                .amax(1)[rows]
                .round()
                .long()
                .clamp(0, MAX_DIFFICULTY)
            )
            _count_pairs(self.sequences_joint, hardest.cpu(), slowest[rows].cpu())
            self.targets_at += _count(difficulty[has_target[known].cpu()])
            self.correct_at += _count(difficulty[correct[known].cpu()])
        return prediction

    def over_ranks(self, device: torch.device) -> "Tally":
        """The same counts summed over all ranks."""
        parts = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        flat = collectives.all_reduce_sum(
            torch.cat([part.flatten() for part in parts.values()]).to(device)
        ).cpu()
        summed = Tally(self.max_steps)
        pieces = flat.split([part.numel() for part in parts.values()])
        for (name, part), piece in zip(parts.items(), pieces, strict=True):
            setattr(summed, name, piece.view(part.shape))
        return summed

    def plus(self, other: "Tally") -> "Tally":
        """The counts of both."""
        both = Tally(self.max_steps)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(both, name, value + getattr(other, name))
        return both

    def ponder_error(self) -> float:
        """The standard error of the mean ponder, in steps: sequences are drawn, and the tokens of
        one think alike (the ratio estimator; Cochran, Sampling Techniques, 1977, section 2.11)."""
        counts = dict(zip(_SUMS, self.sums.tolist(), strict=True))
        rows, valid = counts["rows"], counts["valid"]
        if rows < 2 or valid == 0:
            return math.inf
        mean = counts["ponder"] / valid
        spread = (
            counts["ponder_ponder"]
            - 2 * mean * counts["ponder_tokens"]
            + mean * mean * counts["tokens_tokens"]
        )
        return math.sqrt(max(0.0, spread) * rows / (rows - 1)) / valid

    def survival(self) -> list[float]:
        """The share of valid tokens that run step 1, 2, … N."""
        running = self.steps.flip(0).cumsum(0).flip(0)
        return (running[1:] / self.steps.sum().clamp(min=1)).tolist()

    def figures(self) -> dict[str, float]:
        """The figures, by name. Steps are executed ones, ponder is the rule's own depth; `loss` is
        the cross entropy in nats a target, each weighted as the task says, whatever the objective.

        The rank correlations are over tokens, and `spearman_sequences` over sequences, which are as
        hard as their hardest token and take the steps of their slowest. `share_as_one` is the share
        of sequences whose tokens all left at the same step: at 1 the correlation over sequences is
        the one to read. `bits_per_byte` is there for text: the cross entropy of all targets, none
        weighted, over the bytes that they stand for. `mass_entropy`, −Σ p·ln p in nats a token,
        says over how many steps tokens spread their exit mass.
        """
        counts = dict(zip(_SUMS, self.sums.tolist(), strict=True))
        targets, valid, sequences = (
            max(1.0, counts[name]) for name in ("targets", "valid", "sequences")
        )
        weight = counts["weight"] or 1.0
        numbers = torch.arange(self.max_steps + 1, dtype=torch.float64)
        share = self.steps / self.steps.sum().clamp(min=1)
        mean = float((share * numbers).sum())
        figures = {
            "loss": counts["loss"] / weight,
            "bits": counts["loss"] / weight / math.log(2),
            "accuracy": counts["correct"] / targets,
            "sequence_accuracy": counts["sequences_correct"] / sequences,
            "mean_ponder": counts["ponder"] / valid,
            "mean_steps": mean,
            "std_steps": float((share * (numbers - mean) ** 2).sum().clamp(min=0).sqrt()),
            "share_at_step_1": float(share[1]) if self.max_steps >= 1 else 0.0,
            "share_at_max": float(share[self.max_steps]),
            "mass_entropy": counts["entropy"] / valid,
            "share_as_one": counts["as_one"] / max(1.0, counts["rows"]),
        }
        if counts["bytes"] > 0:
            figures["bits_per_byte"] = counts["nats"] / counts["bytes"] / math.log(2)
        if self.joint.sum() > 0:
            figures["spearman_steps_difficulty"] = rank_correlation(self.joint)
            figures["spearman_ponder_difficulty"] = rank_correlation(self.ponder_joint)
            figures["spearman_sequences"] = rank_correlation(self.sequences_joint)
        return figures

    def by_difficulty(self) -> dict[str, dict[str, float]]:
        """Mean steps and accuracy at each difficulty that occurs: {difficulty: {steps, accuracy,
        tokens}}."""
        numbers = torch.arange(self.max_steps + 1, dtype=torch.float64)
        rows: dict[str, dict[str, float]] = {}
        for difficulty in self.joint.sum(1).nonzero().flatten().tolist():
            tokens = float(self.joint[difficulty].sum())
            targets = float(self.targets_at[difficulty])
            rows[str(difficulty)] = {
                "steps": float((self.joint[difficulty] * numbers).sum() / tokens),
                "accuracy": float(self.correct_at[difficulty]) / targets if targets else math.nan,
                "tokens": tokens,
            }
        return rows


def _count(difficulty: Tensor) -> Tensor:
    return torch.bincount(difficulty, minlength=MAX_DIFFICULTY + 1)


def _count_pairs(joint: Tensor, first: Tensor, second: Tensor) -> None:
    """Adds to joint [X Y] how often each pair of whole numbers occurs."""
    joint += torch.bincount(first * joint.shape[1] + second, minlength=joint.numel()).view(
        joint.shape
    )


def rank_correlation_of_steps(figures: dict[str, float]) -> tuple[str, float | None]:
    """How far executed steps follow difficulty: ("tokens", Spearman's ρ), or over "sequences" where
    their tokens all leave together; None where it is not defined."""
    as_one = figures.get("share_as_one") == 1.0
    over, name = (
        ("sequences", "spearman_sequences") if as_one else ("tokens", "spearman_steps_difficulty")
    )
    rho = figures.get(name)
    return over, None if rho is None or rho != rho else rho
