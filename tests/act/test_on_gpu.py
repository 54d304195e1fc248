"""What only a GPU can show: its kernels give what the plain path gives, and the host waits for it
once a step."""

import warnings

import pytest
import torch
from torch import Tensor

from act import Block, LoopedTransformer, Recurrence, generate
from act.blocks.block import AttentionLayout
from act.layers.ragged_attention import RaggedAttention
from act.testing import assert_close
from halting import FixedSteps, GravesACT

DEVICE = "cuda"
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.usefixtures("unchecked"),
]

BATCH, LENGTH, DIM, HEADS, LIMIT = 3, 200, 128, 4, 5


def loop_of(
    attention: AttentionLayout = "padded", causal: bool = False, path: str = "packed"
) -> Recurrence:
    """One whose tokens leave at widely different steps."""
    torch.manual_seed(0)
    block = Block(
        DIM,
        HEADS,
        num_kv_heads=2,
        num_layers=2,
        causal=causal,
        injection="concat",
        attention=attention,
    )
    rule = GravesACT(DIM, bias_init=-0.5)
    torch.nn.init.normal_(rule.gate.weight, std=0.3)
    return Recurrence(block, rule, max_steps=LIMIT, path=path).to(DEVICE)


def outcome(
    loop: Recurrence, valid: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """Steps; output and gradients, as float32, twice through one graph."""
    loop.block.to(dtype)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, LENGTH, DIM, generator=generator).to(DEVICE, dtype).requires_grad_()
    output, trace = loop(x, valid)
    for _ in range(2):
        found = torch.autograd.grad(
            output.float().sin().sum(), [x, *loop.parameters()], retain_graph=True
        )
    assert len(trace.steps.unique()) > 2
    return trace.steps, [each.detach().float() for each in (output, *found)]


def assert_same(
    mine: tuple[Tensor, list[Tensor]], theirs: tuple[Tensor, list[Tensor]], dtype: torch.dtype
) -> None:
    """In 16 bits a token near its threshold may leave a step earlier or later, so there only the
    whole is compared."""
    if dtype == torch.float32:
        assert torch.equal(mine[0], theirs[0])
        for number, (one, other) in enumerate(zip(mine[1], theirs[1], strict=True)):
            assert_close(one, other, f"tensor {number}")
        return
    assert (mine[0] != theirs[0]).float().mean() < 0.02
    for number, (one, other) in enumerate(zip(mine[1], theirs[1], strict=True)):
        apart = float((one - other).norm() / other.norm())
        assert apart < 0.15, f"tensor {number}: {apart:.3f} of its size apart"


def holes() -> Tensor:
    return (torch.rand(BATCH, LENGTH, generator=torch.Generator().manual_seed(2)) < 0.8).to(DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("holed", [False, True], ids=["full", "holes"])
@pytest.mark.parametrize("attention", ["padded", "ragged"])
def test_law_3_packed_equals_dense(
    attention: AttentionLayout, holed: bool, causal: bool, dtype: torch.dtype
) -> None:
    valid = holes() if holed else None
    dense = outcome(loop_of(causal=causal, path="dense"), valid, dtype)
    assert_same(outcome(loop_of(attention, causal), valid, dtype), dense, dtype)


def test_sequences_without_a_mask_take_the_variable_length_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []
    for name in ("_variable_length", "_block_masked"):
        kernel = getattr(RaggedAttention, name)
        monkeypatch.setattr(
            RaggedAttention, name, lambda *given, k=kernel, n=name: (taken.append(n), k(*given))[1]
        )
    for dtype, causal in ((torch.bfloat16, False), (torch.bfloat16, True), (torch.float32, False)):
        taken.clear()
        outcome(loop_of("ragged", causal), None, dtype)
        assert set(taken) == {
            "_block_masked" if causal or dtype == torch.float32 else "_variable_length"
        }


@pytest.mark.parametrize("attention", ["padded", "ragged"])
def test_compiled_parts_give_what_eager_ones_give(attention: AttentionLayout) -> None:
    compiled = loop_of(attention)
    compiled.block.compile_parts()
    assert_same(
        outcome(compiled, None, torch.float32),
        outcome(loop_of(attention), None, torch.float32),
        torch.float32,
    )


@pytest.mark.parametrize("attention", ["padded", "ragged"])
@pytest.mark.parametrize("rule", ["GravesACT", "FixedSteps"])
def test_the_host_waits_once_a_step(rule: str, attention: AttentionLayout) -> None:
    loop = loop_of(attention)
    if rule == "FixedSteps":
        loop.use(FixedSteps())
    x = torch.randn(BATCH, LENGTH, DIM, device=DEVICE)
    loop(x)[0].sum().backward()  # kernels are loaded and compiled
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            output, trace = loop(x)
            output.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    steps = trace.num_steps if rule == "GravesACT" else 1
    told = [str(each.message) for each in waits if "synchroniz" in str(each.message)]
    assert len(told) <= steps, told


def test_decoding_gives_what_the_parallel_pass_gives() -> None:
    torch.manual_seed(0)
    rule = GravesACT(DIM, bias_init=-0.5)
    model = (
        LoopedTransformer(11, DIM, HEADS, rule, max_steps=4, causal=True, attention="ragged")
        .to(DEVICE)
        .eval()
    )
    prompt = torch.randint(11, (2, 9), device=DEVICE)
    made = generate(model, prompt, num_tokens=8).tokens
    with torch.no_grad():
        said = model(made[:, :-1]).logits.argmax(-1)
    assert torch.equal(said[:, prompt.shape[1] - 1 :], made[:, prompt.shape[1] :])
