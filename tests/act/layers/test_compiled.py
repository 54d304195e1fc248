"""The parts of a step that work on each token alone, compiled: the same numbers, and one
compilation for all counts."""

import copy

import pytest
import torch

from act import Block, Checkpointed, Recurrence, Truncated
from act.loop.backprop import Backprop
from act.testing import assert_close
from halting import GravesACT

pytestmark = pytest.mark.usefixtures("unchecked", "fresh_compiler")

DIM, LIMIT = 32, 6


def both(backprop: Backprop | None, causal: bool) -> tuple[Recurrence, Recurrence]:
    """A loop run eagerly, and the same with compiled parts."""
    torch.manual_seed(0)
    options = {
        "num_kv_heads": 2,
        "num_layers": 2,
        "causal": causal,
        "injection": "concat",
        "step_signal": "sinusoidal",
    }
    loops = []
    for compiled in (False, True):
        block = Block(DIM, 4, **options)
        if compiled:
            block.compile_parts()
        loops.append(
            Recurrence(block, GravesACT(DIM, bias_init=-0.5), max_steps=LIMIT, backprop=backprop)
        )
    torch.nn.init.normal_(loops[0].rule.gate.weight, std=0.3)
    loops[1].load_state_dict(loops[0].state_dict())
    return loops[0], loops[1]


@pytest.mark.parametrize("backprop", [None, Truncated(2), Checkpointed()], ids=str)
def test_it_gives_what_eager_steps_give(backprop: Backprop | None) -> None:
    """Output, halting and all gradients, twice over one graph."""
    eager, compiled = both(backprop, causal=True)
    x = torch.randn(3, 20, DIM, requires_grad=True)
    found = []
    for loop in (eager, compiled):
        output, trace = loop(x)
        wanted = [x, *loop.parameters()]
        for _ in range(2):
            gradients = torch.autograd.grad(output.sin().sum(), wanted, retain_graph=True)
        found.append((trace.steps, [output, *gradients]))
    assert torch.equal(found[0][0], found[1][0]) and len(found[0][0].unique()) > 2
    for number, (one, other) in enumerate(zip(found[0][1], found[1][1], strict=True)):
        assert_close(one, other, f"tensor {number}")


def test_another_active_count_is_no_reason_to_compile_again() -> None:
    _, compiled = both(None, causal=False)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    counts, graphs = set(), []
    for seed in range(4):
        torch.manual_seed(seed)
        valid = torch.rand(3, 10 + seed) < 0.9
        _, trace = compiled(torch.randn(3, 10 + seed, DIM), valid)
        counts |= {int((trace.steps >= step).sum()) for step in range(1, LIMIT + 1)}
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert len(counts) > 8
    assert graphs == graphs[:1] * 4
    assert graphs[0] <= 9, (
        "of three parts: one with gradient at its input, one without, one for a single token"
    )
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_copy_computes_with_its_own_parameters() -> None:
    """So do an average of weights, and a model that is loaded."""
    _, compiled = both(None, causal=False)
    other = copy.deepcopy(compiled)
    with torch.no_grad():
        for parameter in compiled.block.parameters():
            parameter.zero_()
    x = torch.randn(2, 5, DIM)
    assert not torch.allclose(compiled(x)[0], other(x)[0])
