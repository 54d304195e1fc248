"""Executable specification of the blocks: plain Python, one token at a time, in float64. Nothing is
shared with the fast path but the weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from act.layers.attention import Attention
from act.layers.feed_forward import FeedForward
from act.layers.norm import StepNorm


@dataclass
class NaiveToken:
    """One token while it loops.

    Args:
        row: its sequence.
        position: where it stands there.
        inputs: [D] float64, what the loop started from.
        state: [D], before the step.
        entering: [D], what the step read.
        keys, values: by layer, those that it wrote last.
    """

    row: int
    position: int
    inputs: Tensor
    state: Tensor
    entering: Tensor
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)


def transformer_step(
    block: Any, tokens: Sequence[NaiveToken], active: Sequence[NaiveToken], step: int
) -> list[Float[Tensor, " D"]]:
    """`LoopBlock.naive_step` of an `act.Block`."""
    for token in active:
        token.entering = _enter(block, token.state, token.inputs, step)
    made = [token.entering for token in active]
    for number, layer in enumerate(block.layers):
        attention = layer.attention
        feed_forward = layer.feed_forward
        before_attention = layer.attention_norm
        before_feed_forward = layer.feed_forward_norm
        assert isinstance(attention, Attention) and isinstance(feed_forward, FeedForward)
        assert isinstance(before_attention, nn.Module) and isinstance(
            before_feed_forward, nn.Module
        )
        queries = []
        for token, x in zip(active, made, strict=True):
            query, token.keys[number], token.values[number] = _heads(
                attention, _norm(before_attention, x, step), token.position, block
            )
            queries.append(query)
        for place, token in enumerate(active):
            seen = [
                other for other in tokens if not block.causal or other.position <= token.position
            ]
            keys = [other.keys[number] for other in seen]
            values = [other.values[number] for other in seen]
            scale = layer.residual_scale
            attended = attention.out.weight.double() @ _attend(queries[place], keys, values)
            x = made[place] + scale * attended
            made[place] = x + scale * _feed_forward(
                feed_forward, _norm(before_feed_forward, x, step)
            )
    return made


def _enter(block: Any, x: Tensor, inputs: Tensor, step: int) -> Tensor:
    if block.injection == "concat":
        x = block.inject.weight.double() @ torch.cat((x, inputs))
    if block.injection == "add":
        x = x + inputs
    if block.step_signal == "sinusoidal":
        x = x + _signal(step, len(x))
    return x


def _signal(step: int, dim: int) -> Tensor:
    half = dim // 2
    angles = [step / 10_000 ** (i / max(half - 1, 1)) for i in range(half)]
    signal = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return torch.tensor(signal + [0.0] * (dim - 2 * half), dtype=torch.float64)


def _norm(norm: nn.Module, x: Tensor, step: int = 0) -> Tensor:
    if isinstance(norm, StepNorm):
        made = norm.modulation.double() @ _signal(step, norm.modulation.shape[1])
        return (1 + made[: len(x)]) * _norm(norm.norm, x) + made[len(x) :]
    if isinstance(norm, nn.RMSNorm):
        return x / (x.square().mean() + 1e-6).sqrt() * norm.weight.double()
    assert isinstance(norm, nn.LayerNorm)
    centred = x - x.mean()
    return (
        centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight.double()
        + norm.bias.double()
    )


def _heads(
    attention: Attention, x: Tensor, position: int, block: Any
) -> tuple[Float[Tensor, "H Dh"], Float[Tensor, "Hkv Dh"], Float[Tensor, "Hkv Dh"]]:
    """One token's queries, keys and values; queries and keys turned by its position."""
    num_heads = attention.num_heads
    num_kv = attention.num_kv_heads
    heads = (attention.qkv.weight.double() @ x).reshape(num_heads + 2 * num_kv, attention.head_dim)
    queries = heads[:num_heads]
    keys = heads[num_heads : num_heads + num_kv]
    values = heads[num_heads + num_kv :]
    if attention.query_norm is not None and attention.key_norm is not None:
        queries = torch.stack([_norm(attention.query_norm, head) for head in queries])
        keys = torch.stack([_norm(attention.key_norm, head) for head in keys])
    if block.rotary_dim is None:
        return queries, keys, values
    return (
        _rotate(queries, position, block.rotary_base),
        _rotate(keys, position, block.rotary_base),
        values,
    )


def _rotate(heads: Float[Tensor, "H Dh"], position: int, base: float) -> Float[Tensor, "H Dh"]:
    """Coordinates i and i + Dh/2 of each head turned by position · base^(−2i/Dh)."""
    dim = heads.shape[1]
    angles = [position * base ** (-2 * i / dim) for i in range(dim // 2)]
    cos = torch.tensor([math.cos(a) for a in angles], dtype=torch.float64)
    sin = torch.tensor([math.sin(a) for a in angles], dtype=torch.float64)
    first = heads[:, : dim // 2]
    second = heads[:, dim // 2 :]
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=1)


def _attend(queries: Tensor, keys: list[Tensor], values: list[Tensor]) -> Float[Tensor, " D"]:
    """Softmax attention of one token, head by head; several query heads share a key head."""
    group = queries.shape[0] // keys[0].shape[0]
    out = []
    for head, query in enumerate(queries):
        seen_keys = torch.stack([key[head // group] for key in keys])
        seen_values = torch.stack([value[head // group] for value in values])
        weights = (seen_keys @ query / math.sqrt(len(query))).exp()
        out.append(weights / weights.sum() @ seen_values)
    return torch.cat(out)


def _feed_forward(module: FeedForward, x: Tensor) -> Tensor:
    up = module.up.weight.double()
    down = module.down.weight.double()
    if module.kind == "gelu":
        hidden = up @ x + module.up.bias.double()
        return (
            down @ (hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))
            + module.down.bias.double()
        )
    width = up.shape[0] // 2
    gate = up[:width] @ x
    return down @ (gate / (1 + (-gate).exp()) * (up[width:] @ x))


def gru_step(
    cell: nn.GRUCell, state: Float[Tensor, " D"], inputs: Float[Tensor, " D"]
) -> Float[Tensor, " D"]:
    """One GRU cell (Cho et al. 2014, the reset gate inside the candidate): r, z = σ(...), n =
    tanh(W·x + r ⊙ U·s), s' = (1 − z) ⊙ n + z ⊙ s."""
    of_inputs = cell.weight_ih.double() @ inputs + cell.bias_ih.double()
    of_state = cell.weight_hh.double() @ state + cell.bias_hh.double()
    reset_in, update_in, new_in = of_inputs.chunk(3)
    reset_state, update_state, new_state = of_state.chunk(3)
    reset = 1 / (1 + (-reset_in - reset_state).exp())
    update = 1 / (1 + (-update_in - update_state).exp())
    new = (new_in + reset * new_state).tanh()
    return (1 - update) * new + update * state
