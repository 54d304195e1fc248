"""Options of the looped layers keep the paths equal: packed and dense, decoding and the parallel
pass."""

from typing import Any

import pytest
import torch
from torch import nn

from act import LoopedTransformer
from act.decoding.generate import generate
from act.layers.norm import StepNorm
from halting import GravesACT


def model_of(path: str, **options: Any) -> LoopedTransformer:
    torch.manual_seed(0)
    model = LoopedTransformer(
        13,
        width=16,
        num_heads=2,
        rule=GravesACT(16, bias_init=-0.5),
        max_steps=4,
        causal=True,
        path=path,  # pyright: ignore[reportArgumentType]
        num_layers=2,
        **options,
    ).double()
    gate: Any = model.recurrence.rule.gate
    nn.init.normal_(gate.weight, std=0.5)
    for norm in model.modules():
        if isinstance(norm, StepNorm):  # nothing at first
            nn.init.normal_(norm.modulation, std=0.2)
    return model


@pytest.mark.parametrize(
    "options", [{"residual_scale": 0.25}, {"norm_conditioning": "step"}], ids=str
)
def test_packed_equals_dense_and_decoding_the_parallel_pass(options: dict[str, Any]):
    tokens = torch.randint(13, (3, 9), generator=torch.Generator().manual_seed(1))
    packed, dense = (model_of(path, **options)(tokens) for path in ("packed", "dense"))
    assert torch.allclose(packed.logits, dense.logits, rtol=0, atol=1e-10)
    assert not torch.allclose(model_of("dense")(tokens).logits, dense.logits, atol=1e-3)
    assert len(packed.trace.steps.unique()) > 1
    model = model_of("packed", **options).eval()
    made = generate(model, tokens, 4)
    with torch.no_grad():
        again = model(made.tokens[:, :-1])
    assert torch.equal(again.logits[:, 8:].argmax(-1), made.tokens[:, 9:])
    assert torch.equal(again.trace.steps, made.steps[:, : made.tokens.shape[1] - 1])
