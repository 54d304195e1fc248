"""Losses that a model is asked for instead of logits, where these would fill the memory."""

from typing import NamedTuple

from torch import Tensor, nn

from act.layers.linear_cross_entropy import AnswerLosses, linear_cross_entropy
from act.layers.saved_numbers import SavedNumbers
from halting.trace import PackedSteps

LARGE = 2**24
"""Logits from which on a model is asked for losses instead: 64 MiB in float32."""


class AskedLosses(NamedTuple):
    """What is asked for.

    Args:
        targets: [B L] int64, the right answers; `linear_cross_entropy.IGNORED` where there is none.
        weights: [B L], what each target's loss weighs; None: 1.
        label_smoothing: of the cross entropy.
        of_steps: where the readout trains every step, the loss of each step's answer, weighted as
            the readout says; else of the output alone.
    """

    targets: Tensor
    weights: Tensor | None = None
    label_smoothing: float = 0.0
    of_steps: bool = False
    of_left: bool = False


class Answers(NamedTuple):
    """What a model answers where it was asked for losses.

    Args:
        total: Σ weight · loss over the targets, with gradient.
        losses: nats without gradient, 0 where there is no target: [B L], or [M] of each executed
            step, packed.
        predictions: int64, of the same shape: the likeliest answer.
        steps: which step each of the M is of; None where the output answers.
    """

    total: Tensor
    losses: Tensor
    predictions: Tensor
    steps: PackedSteps | None = None


class AnswerHead(nn.Linear):
    """A linear head that gives logits, or where it is asked for them losses: as a module that is
    called for both, so that under ZeRO-3 its weight is there."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input: Tensor,
        targets: Tensor | None = None,
        weights: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> Tensor | AnswerLosses:
        """Logits [... V] of states [... D]; the losses of M states where targets [M] are given."""
        if targets is None:
            return super().forward(input)
        return linear_cross_entropy(input, self.weight, targets, weights, label_smoothing)

    def saved_by_logits(self) -> SavedNumbers:
        """What is kept of an answer's logits: they, and their softmax."""
        return SavedNumbers(wide=self.out_features, narrow=self.out_features)

    def saved_by_losses(self) -> SavedNumbers:
        """What is kept of an answer whose loss was asked for: the gradient of its state, its loss
        and weight, and which one it is, two numbers wide. Once for all answers there is the
        gradient of the weight beside."""
        return SavedNumbers(wide=self.in_features + 4)


def weights_of_steps(asked: AskedLosses, packed: PackedSteps, by_step: Tensor) -> Tensor:
    """What the loss of each executed step weighs, [M]: `by_step` times the target's own.

    Args:
        asked: with the weights of targets.
        packed: which steps.
        by_step: [B L N], as the readout says, or the exit mass.
    """
    own = by_step.flatten(0, 1)[packed.index, packed.step]
    if asked.weights is None:
        return own
    return own * asked.weights.flatten()[packed.index].to(own.dtype)


def is_large(answers: int, vocabulary: int) -> bool:
    """Whether the logits of so many answers are large. Ranks have to agree on it: under ZeRO-3 they
    run the same modules forward and back, whatever number of tokens each has."""
    return answers * vocabulary >= LARGE
