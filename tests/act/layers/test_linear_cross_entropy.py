"""Cross entropy without whole logits, against whole logits."""

import pytest
import torch
from torch.nn import functional as F

from act.layers.linear_cross_entropy import IGNORED, linear_cross_entropy


def given(rows: int = 300, vocabulary: int = 37, width: int = 8, dtype: torch.dtype = torch.double):
    torch.manual_seed(0)
    states = torch.randn(rows, width, dtype=dtype, requires_grad=True)
    head = torch.randn(vocabulary, width, dtype=dtype, requires_grad=True)
    targets = torch.randint(vocabulary, (rows,))
    targets[::7] = IGNORED
    weights = torch.rand(rows, dtype=dtype, requires_grad=True)
    return states, head, targets, weights


def whole(states, head, targets, weights, smoothing):
    """The definition."""
    losses = F.cross_entropy(
        states @ head.T,
        targets,
        ignore_index=IGNORED,
        reduction="none",
        label_smoothing=smoothing,
    )
    return (weights * losses).sum(), losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [1, 80, 300])
def test_losses_and_gradients_are_those_of_whole_logits(rows: int, smoothing: float) -> None:
    states, head, targets, weights = given(rows)
    found = linear_cross_entropy(states, head, targets, weights, smoothing)
    total, losses = whole(states, head, targets, weights, smoothing)
    torch.testing.assert_close(found.total, total, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.losses, losses, rtol=1e-12, atol=1e-12)
    assert torch.equal(found.predictions, (states @ head.T).argmax(-1))
    of = (states, head, weights)
    for mine, theirs in zip(
        torch.autograd.grad(3 * found.total, of), torch.autograd.grad(3 * total, of), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    states, head, targets, weights = given()
    found = linear_cross_entropy(states.detach(), head, targets, weights.detach())
    (alone,) = torch.autograd.grad(found.total, [head])
    total, _ = whole(states, head, targets, weights, 0.0)
    torch.testing.assert_close(alone, torch.autograd.grad(total, [head])[0])
    with torch.no_grad():
        assert not linear_cross_entropy(states, head, targets).total.requires_grad


def test_the_softmax_is_wide_under_autocast_and_products_are_narrow() -> None:
    states, head, targets, _ = given(rows=200, vocabulary=500, width=64, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = linear_cross_entropy(states, head, targets)
        logits = F.linear(states, head)
    assert logits.dtype == torch.bfloat16 and found.losses.dtype == torch.float32
    losses = F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="none")
    torch.testing.assert_close(found.losses, losses, rtol=1e-6, atol=1e-6)
    mine = torch.autograd.grad(found.total, [states, head])
    theirs = torch.autograd.grad(losses.sum(), [states, head])
    for one, other in zip(mine, theirs, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.03, atol=0.03 * float(other.abs().max()))


def test_no_target_at_all_costs_nothing() -> None:
    states, head, targets, weights = given(rows=3)
    found = linear_cross_entropy(states, head, torch.full_like(targets, IGNORED), weights)
    assert found.total == 0 and not any(
        each.any() for each in torch.autograd.grad(found.total, [states, head])
    )


def test_a_second_backward_is_refused_in_words() -> None:
    states, head, targets, _ = given()
    total = linear_cross_entropy(states, head, targets).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="went backward a second time"):
        total.backward()
