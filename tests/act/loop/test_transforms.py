"""What PyTorch makes of a loop: gradients by torch.func, torch.compile; and what it is told not
to."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from act import Block, Checkpointed, LoopedTransformer, Recurrence, Truncated
from act.loop.backprop import Backprop
from act.testing import assert_close
from halting import GravesACT, UsageError

DIM = 8


def loop_of(**options: Any) -> Recurrence:
    torch.manual_seed(1)
    rule = GravesACT(DIM, bias_init=-0.5)
    nn.init.normal_(rule.gate.weight)
    block = Block(DIM, 2, num_kv_heads=1, injection="concat")
    return Recurrence(block, rule, max_steps=4, **options).double()


def model_of() -> LoopedTransformer:
    torch.manual_seed(1)
    return LoopedTransformer(
        vocab_size=11, width=DIM, num_heads=2, rule=GravesACT(DIM), max_steps=3, prelude_layers=1
    )


def inputs(seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 5, DIM, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("backprop", [Backprop(), Checkpointed(), Truncated(2)], ids=str)
@pytest.mark.parametrize("path", ["packed", "dense"])
def test_torch_func_gives_the_gradients_of_autograd(path: str, backprop: Backprop) -> None:
    loop = loop_of(path=path, backprop=backprop)
    weights = dict(loop.named_parameters())
    x = inputs().requires_grad_()

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        output, trace = functional_call(loop, weights, (x,))
        return output.square().sum() + trace.mass.square().sum()

    of_weights, of_x = grad(loss, argnums=(0, 1))(weights, x.detach())
    expected = torch.autograd.grad(loss(weights, x), [*weights.values(), x])
    found = [*of_weights.values(), of_x]
    for name, one, other in zip([*weights, "x"], found, expected, strict=True):
        assert_close(one, other, f"gradient of {name}")


def test_torch_func_goes_through_a_whole_model() -> None:
    model = model_of()
    weights = {name: each.detach() for name, each in model.named_parameters()}
    tokens = torch.randint(0, 11, (2, 5))

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return functional_call(model, weights, (tokens,)).logits.square().sum()

    found = grad(loss)(weights)
    model(tokens).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert_close(found[name], expected, f"gradient of {name}")


def test_a_jacobian_is_that_of_autograd() -> None:
    loop = loop_of()
    x = inputs()
    found = jacrev(lambda x: loop(x)[0].sum(-1))(x)
    expected = torch.autograd.functional.jacobian(lambda x: loop(x)[0].sum(-1), x)
    assert_close(found, expected, "jacobian")


REFUSED: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "torch.jit.trace": lambda module, given: torch.jit.trace(module, (given,)),
    "torch.jit.script": lambda module, given: torch.jit.script(module),
    "torch.export": lambda module, given: torch.export.export(module, (given,), strict=False),
    "torch.func.vmap": lambda module, given: vmap(lambda x: module(x)[0])(given.unsqueeze(0)),
}


@pytest.mark.parametrize("transform", REFUSED)
@pytest.mark.parametrize("whole", [False, True], ids=["recurrence", "model"])
def test_what_has_no_fixed_graph_is_refused(transform: str, whole: bool) -> None:
    module = model_of() if whole else loop_of()
    given = torch.randint(0, 11, (2, 5)) if whole else inputs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UsageError, match=f"{transform} cannot take a loop") as refusal:
            REFUSED[transform](module.eval(), given)
    assert "tokens leave when" in refusal.value.why and "torch.compile" in refusal.value.write


def test_a_gradient_for_each_sample_is_refused_too() -> None:
    loop = loop_of()
    weights = dict(loop.named_parameters())

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(loop, weights, (x,))[0].square().sum()

    with pytest.raises(UsageError, match="vmap cannot take a loop"):
        vmap(grad(loss), in_dims=(None, 0))(weights, inputs().unsqueeze(1))
    stacked = {name: torch.stack((each, each)) for name, each in weights.items()}
    with pytest.raises(UsageError, match="vmap cannot take a loop"):
        vmap(loss, in_dims=(0, None))(stacked, inputs())
