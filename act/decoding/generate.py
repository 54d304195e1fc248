"""Decoding: one new token at a time, each thinking as long as its rule says."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from act.models.looped_transformer import LoopedTransformer
from halting.errors import UsageError


@dataclass(frozen=True)
class Generation:
    """What was decoded.

    Args:
        tokens: [B L + new] int64, prompt and continuation; a row ends at its prompt's length plus
            `new`.
        steps: [B L + new] int64, executed loop steps of every token that was read (0 for the last,
            which never was).
    """

    tokens: Int[Tensor, "B S"]
    steps: Int[Tensor, "B S"]


@torch.no_grad()
def generate(
    model: LoopedTransformer,
    prompt: Int[Tensor, "B L"],
    num_tokens: int,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    max_steps: int | None = None,
) -> Generation:
    """Continue each prompt by `num_tokens` tokens, exactly as the parallel pass would say them.

    Keys and values of every loop step are kept (`StepwiseCache`), so a new token at step n reads of
    an earlier one, which halted at m, what it wrote at step min(n, m).

    Args:
        model: causal.
        prompt: tokens, right-padded.
        num_tokens: how many to add to each row.
        lengths: of the prompts; L unless given.
        temperature: 0 takes the most likely token.
        generator: for sampling.
        max_steps: another step limit.

    Raises:
        UsageError: for a model that is not causal, an empty prompt, or more tokens than it learned
            positions for.
    """
    if not model.causal:
        raise UsageError(
            "This model cannot generate.",
            "It is bidirectional: each token has seen those after it.",
            "Train a causal one.",
        )
    batch, length = prompt.shape
    lengths = torch.full((batch,), length, device=prompt.device) if lengths is None else lengths
    if length == 0 or int(lengths.min()) < 1:
        raise UsageError(
            "The prompt is empty.",
            "The first token has nothing to follow from.",
            "Give one token or more.",
        )
    model.check_length(
        max(length, int(lengths.max()) + num_tokens - 1)
    )  # the last token is never read
    caches = model.decoding_caches(batch, length + num_tokens, max_steps)
    tokens = torch.cat((prompt, prompt.new_zeros(batch, num_tokens)), dim=1)
    steps = torch.zeros_like(tokens)
    columns = torch.arange(length, device=prompt.device)
    valid = columns < lengths.unsqueeze(1)
    positions = columns.expand(batch, length)
    current = prompt
    rows = torch.arange(batch, device=prompt.device)
    for number in range(num_tokens):
        for cache in caches:
            assert cache.visible is not None
            cache.visible[rows.unsqueeze(1).expand_as(positions)[valid], positions[valid]] = True
        output = model(current, valid, caches=caches, positions=positions, max_steps=max_steps)
        steps[rows.unsqueeze(1).expand_as(positions)[valid], positions[valid]] = output.trace.steps[
            valid
        ]
        last = output.logits[rows, valid.sum(1) - 1]
        chosen = _choose(last, temperature, generator)
        tokens[rows, lengths + number] = chosen
        current = chosen.unsqueeze(1)
        valid = valid.new_ones(batch, 1)
        positions = (lengths + number).unsqueeze(1)
    return Generation(tokens, steps)


def _choose(
    logits: Float[Tensor, "B V"], temperature: float, generator: torch.Generator | None
) -> Int[Tensor, " B"]:
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator).squeeze(-1)
