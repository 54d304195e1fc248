"""The loop against its executable specification: every option of the block, outputs and
gradients."""

from typing import Any

import pytest
import torch

from act import Block, Recurrence
from act.models.looped_transformer import LoopedTransformer
from act.testing import assert_close, naive
from act.testing.probes import gradients_of
from halting import EveryStep, FinalState, GravesACT, Readout, WeightedMean

DIM = 8
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]], dtype=torch.bool)


def act_rule(dim: int = DIM) -> GravesACT:
    rule = GravesACT(dim, bias_init=-0.5).double()
    torch.nn.init.normal_(rule.gate.weight)
    return rule


def assert_equal_to_naive(
    loop: Recurrence, valid: torch.Tensor | None, max_steps: int | None = None
) -> None:
    x = torch.randn(3, 4, loop.block.dim, dtype=torch.float64, requires_grad=True)  # pyright: ignore[reportArgumentType, reportCallIssue]
    output, trace = loop(x, valid, max_steps=max_steps)
    expected = naive.run(loop, x, valid, max_steps)
    assert torch.equal(trace.steps, expected.steps)
    assert len(expected.steps.unique()) > 2, "all tokens take equally long: nothing was tried"
    assert_close(output, expected.output, "output")
    assert_close(trace.mass, expected.mass, "mass")
    wanted = {"input": x, **dict(loop.named_parameters())}
    theirs = gradients_of({"output": expected.output, "mass": expected.mass}, wanted)
    for name, gradient in gradients_of({"output": output, "mass": trace.mass}, wanted).items():
        assert_close(gradient, theirs[name], f"gradient of {name}")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("valid", [None, VALID], ids=["full", "padded"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm_kind": "layer", "feed_forward": "gelu"},
        {"qk_norm": True, "num_kv_heads": 2, "num_layers": 2},
        {"residual_scale": 0.5, "num_layers": 3},
        {"norm_conditioning": "step", "num_layers": 2},
        {"norm_conditioning": "step", "norm_kind": "layer", "injection": "add"},
        {"num_kv_heads": 1, "rotary": False, "injection": "add"},
        {"num_kv_heads": 2, "num_layers": 2, "injection": "concat", "rotary_base": 100.0},
        {"step_signal": "sinusoidal", "feed_forward_width": 5},
        {
            "num_layers": 3,
            "norm_kind": "layer",
            "step_signal": "sinusoidal",
            "injection": "concat",
            "feed_forward": "gelu",
        },
    ],
    ids=str,
)
def test_every_option_of_the_block(
    options: dict[str, Any], valid: torch.Tensor | None, causal: bool
) -> None:
    torch.manual_seed(3)
    block = Block(
        DIM, 4 if options.get("num_kv_heads") == 2 else 2, causal=causal, **options
    ).double()
    for name, parameter in block.named_parameters():
        if name.endswith("modulation"):  # nothing at first
            torch.nn.init.normal_(parameter, std=0.2)
    assert_equal_to_naive(Recurrence(block, act_rule(), max_steps=5), valid)


@pytest.mark.parametrize(
    "readout", [FinalState(), WeightedMean(), EveryStep()], ids=lambda r: type(r).__name__
)
def test_every_readout(readout: Readout) -> None:
    assert_equal_to_naive(
        Recurrence(Block(DIM, 2).double(), act_rule(), readout, max_steps=5), VALID
    )


def test_more_steps_than_it_was_built_for() -> None:
    block = Block(DIM, 2, injection="concat", step_signal="sinusoidal").double()
    assert_equal_to_naive(Recurrence(block, act_rule(), max_steps=2), VALID, max_steps=7)


def test_the_loop_of_a_whole_model() -> None:
    model = LoopedTransformer(
        11, DIM, 2, act_rule(), max_steps=5, num_layers=2, causal=True, prelude_layers=1
    ).double()
    assert_equal_to_naive(model.recurrence, VALID)


def test_an_odd_width_of_the_step_signal() -> None:
    block = Block(3, 1, rotary=False, step_signal="sinusoidal").double()
    assert_equal_to_naive(Recurrence(block, act_rule(3), max_steps=5), VALID)


def test_float32_is_compared_in_float64() -> None:
    """The specification widens; a float32 loop stays within float32's tolerance of it."""
    loop = Recurrence(Block(DIM, 2), act_rule().float(), max_steps=4)
    x = torch.randn(3, 4, DIM)
    output, trace = loop(x, VALID)
    expected = naive.run(loop, x, VALID)
    assert expected.output.dtype == torch.float64 and torch.equal(trace.steps, expected.steps)
    assert_close(output, expected.output, "output")
