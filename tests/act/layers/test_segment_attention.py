"""Attention that is cut at the bounds of documents, against a mask."""

import pytest
import torch
from torch import Tensor

from act import Block, LoopContext, Recurrence
from act.caches.kept import KeptSegments
from act.layers.attention import AttentionContext, attend_packed
from act.segments import Segments
from act.slots import Slots
from act.testing import assert_close
from benchmarks.memory.live_tensors import LiveTensors
from halting import FixedSteps, GravesACT

BATCH, LENGTH, HEADS, SIZE = 2, 50, 4, 8
DOCUMENTS = torch.tensor([[3] * 40 + [1] * 9 + [8], [2] * 5 + [7] * 44 + [4]])


def cut(monkeypatch: pytest.MonkeyPatch, on: bool) -> None:
    monkeypatch.setattr(Segments, "always", on)


def some_slots(kept: float, visible: Tensor | None) -> Slots:
    chosen = torch.rand(BATCH, LENGTH, generator=torch.Generator().manual_seed(5)) < kept
    return Slots.of(chosen if visible is None else chosen & visible)


@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("case", ["full", "some", "holes"])
def test_it_reads_what_a_mask_lets_it(
    case: str, causal: bool, kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(1)
    visible = None
    if case == "holes":
        visible = torch.rand(BATCH, LENGTH, generator=generator) < 0.8
    slots = some_slots(2.0 if case == "full" else 0.5, visible)
    given = [
        torch.randn(*shape, SIZE, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in (
            (len(slots), HEADS),
            (BATCH, LENGTH, kv_heads),
            (BATCH, LENGTH, kv_heads),
        )
    ]
    found = []
    for on in (True, False):
        cut(monkeypatch, on)
        context = AttentionContext.of(
            given[0].flatten(1), slots, visible, causal, None, 1.0, segments=Segments(DOCUMENTS)
        )
        assert (context.segments is not None) == on
        answer = attend_packed(given[0], given[1], given[2], slots, context)
        found.append((answer, *torch.autograd.grad(answer.sin().sum(), given)))
    for number, (one, other) in enumerate(zip(*found, strict=True)):
        assert_close(one, other, f"answer and gradients, {number}")


def loop_of(rule: str, kv_heads: int = 2) -> Recurrence:
    torch.manual_seed(3)
    block = Block(32, HEADS, num_kv_heads=kv_heads, num_layers=2, causal=True, injection="concat")
    decides = FixedSteps() if rule == "fixed" else GravesACT(32, bias_init=-0.5)
    loop = Recurrence(block, decides, max_steps=5).double()
    if rule != "fixed":
        torch.nn.init.normal_(loop.rule.gate.weight, std=0.3)  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    return loop


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_cache_of_packed_training_goes_back_twice(
    kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rectangles are laid out again on the way back, of rows that later steps have written on."""
    found = []
    for on in (True, False):
        cut(monkeypatch, on)
        loop = loop_of("GravesACT", kv_heads)
        x = torch.randn(BATCH, LENGTH, 32, dtype=torch.float64, requires_grad=True)
        output, trace = loop(x, context=LoopContext(documents=DOCUMENTS))
        assert len(trace.steps.unique()) > 2
        given = [x, *loop.parameters()]
        once = torch.autograd.grad(output.sin().sum(), given, retain_graph=True)
        again = torch.autograd.grad(output.sin().sum(), given)
        assert all(map(torch.equal, once, again))
        found.append((output, *once))
    for number, (one, other) in enumerate(zip(*found, strict=True)):
        assert_close(one, other, f"output and gradients, {number}")


def test_keys_are_not_kept_as_they_were_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step that only some tokens take: those of all others would be, once a step."""
    cut(monkeypatch, True)
    x = torch.randn(BATCH, LENGTH, 32, dtype=torch.float64)
    context = LoopContext(documents=DOCUMENTS)
    loop = loop_of("GravesACT", HEADS)
    kept = []
    for _ in range(2):
        with LiveTensors(but=loop.parameters()) as live:
            output, trace = loop(x, context=context)
            kept.append(live.bytes())
        monkeypatch.setattr(KeptSegments, "_pack", lambda self, tensor: tensor)
    partial = trace.num_steps - 1 - int((trace.steps == trace.num_steps).all())
    del output
    assert partial >= 2
    keys_and_values = 2 * 2 * BATCH * LENGTH * 32 * x.element_size()  # of both layers, a step
    assert kept[1] - kept[0] >= keys_and_values


def test_another_document_is_nothing_to_it_even_as_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, True)
    loop = loop_of("fixed")
    x = torch.randn(BATCH, LENGTH, 32, dtype=torch.float64)
    context = LoopContext(documents=DOCUMENTS)
    clean, _ = loop(x, context=context)
    x[0, 40:49] = float("nan")
    spoilt, _ = loop(x, context=context)
    other = DOCUMENTS != 1
    assert torch.equal(clean[other], spoilt[other]) and spoilt[~other].isnan().all()


def test_torch_func_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, True)
    loop = loop_of("fixed")
    x = torch.randn(BATCH, LENGTH, 32, dtype=torch.float64, requires_grad=True)
    context = LoopContext(documents=DOCUMENTS)
    mine = torch.func.grad(lambda given: loop(given, context=context)[0].sin().sum())(x)
    theirs = torch.autograd.grad(loop(x, context=context)[0].sin().sum(), [x])[0]
    assert_close(mine, theirs, "gradient")
