"""The examples of a block and a model of one's own, and what is refused before anything trains."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import small
from torch import Tensor, nn

from act import LoopBlock, LoopedModel, PlainBlock, Recurrence
from act.accounting.counted import flops_by_torch
from act.accounting.executed_flops import computed_flops
from act.accounting.flops import count_flops
from act.testing import assert_close
from halting import ConfidenceExit, FixedSteps, GravesACT, UsageError
from training.build import build_all, build_model, build_task
from training.config.parts import resolve
from training.resources.dry_run import plan

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
BLOCK = f"{EXAMPLES / 'my_block.py'}:MyBlock"
MODEL = f"{EXAMPLES / 'my_model.py'}:MyModel"
LAYER = "torch.nn:TransformerEncoderLayer"
OWN: dict[str, dict[str, Any]] = {
    "block": {"block": BLOCK, "width": 16, "num_heads": 2},
    "torch layer": {
        "block": LAYER,
        "width": 16,
        "nhead": 2,
        "dim_feedforward": 32,
        "batch_first": True,
        "dropout": 0.0,
    },
    "model": {"kind": MODEL, "block": "GRUBlock", "width": 16, "hidden": 24},
}


def here(cls: type) -> str:
    return f"{cls.__module__}:{cls.__name__}"


def test_a_block_in_a_file_is_under_sixty_lines():
    assert len((EXAMPLES / "my_block.py").read_text().splitlines()) < 60


@pytest.mark.parametrize("causal", [False, True])
def test_the_example_block_packs_and_keeps_its_definition(causal: bool):
    cls: Any = resolve(BLOCK, nn.Module)
    torch.manual_seed(0)
    block = cls(dim=8, num_heads=2, causal=causal)
    rule = GravesACT(8, bias_init=-0.5)
    nn.init.normal_(rule.gate.weight)
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    runs = []
    for path in ("packed", "dense"):
        loop = Recurrence(block, rule, max_steps=4, path=path).double()  # pyright: ignore[reportArgumentType]
        output, trace = loop(x)
        runs.append((output, trace.mass, *torch.autograd.grad(output.sum(), [*loop.parameters()])))
    assert len(trace.steps.unique()) > 1, "tokens leave together"
    for packed, dense in zip(*runs, strict=True):
        assert_close(packed, dense, "packed against dense")


@pytest.mark.parametrize("own", OWN)
def test_what_it_costs_is_counted(own: str, tmp_path: Path):
    config = small(tmp_path, model=OWN[own], halting={"kind": "FixedSteps"}, loop={"max_steps": 3})
    built = build_all(config)
    model = built.model.eval()
    tokens = built.task.batch("test", 0, 4).tokens
    found: list[Any] = []
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            counted = flops_by_torch(lambda: found.append(model(tokens).trace))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    packs = model.recurrence.packs(tokens.numel())
    assert computed_flops(model, found[0], packs, training=False) == pytest.approx(
        counted, rel=0.02
    )
    told = count_flops(model, tokens.shape[1], inference=True)
    assert told.forward(3) * tokens.numel() == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("own", OWN)
def test_a_dry_run_knows_its_parts_and_its_memory(own: str, tmp_path: Path):
    config = small(tmp_path, model=OWN[own], precision="bf16")
    found = plan(config)
    model, _ = build_model(config, build_task(config))
    assert found.parameters["total"] == sum(each.numel() for each in model.parameters())
    assert sum(found.parameters.values()) == 2 * found.parameters["total"]
    assert found.activations.full > found.activations.checkpointed > 0


class Batchwise(nn.Module):
    """Normalises over the batch."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x - x.mean(0, keepdim=True))


class Ahead(nn.Module):
    """Looks at the whole sequence."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x + x.mean(1, keepdim=True))


class Narrower(nn.Linear):
    """Gives another width."""

    def __init__(self, dim: int):
        super().__init__(dim, dim // 2)


class Failing(LoopBlock):
    """Cannot be called."""

    def __init__(self, dim: int):
        super().__init__()


class Loopless(LoopedModel):
    """Has no loop."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.width = width
        self.head = nn.Linear(width, 2)


class Logits(Loopless):
    """Says a tensor."""

    def __init__(self, recurrence: Recurrence, vocab_size: int, width: int = 16):
        super().__init__(width)
        self.recurrence = recurrence
        self.embedding = nn.Embedding(vocab_size, width)

    def forward(self, tokens: Tensor, *given: Tensor, **named: Any) -> Any:
        return self.recurrence(self.embedding(tokens))[0]


@pytest.mark.parametrize(
    ("model", "causal", "words"),
    [
        (
            {"block": LAYER, "nhead": 2},
            False,
            "mixes the sequences of a batch.*--model.batch-first",
        ),
        ({"block": here(Batchwise)}, False, "Batchwise mixes the sequences"),
        ({"block": here(Ahead)}, True, "Ahead looks ahead"),
        ({"block": here(Narrower)}, False, "gives a tensor of shape"),
        ({"block": here(Failing)}, False, "Failing cannot take a step"),
        ({"block": LAYER, "nhead": 3}, False, "cannot be made: AssertionError"),
        ({"kind": here(Loopless), "block": "GRUBlock"}, False, "has no `recurrence`"),
        ({"kind": here(Logits), "block": "GRUBlock"}, False, "Logits says Tensor"),
    ],
)
def test_what_cannot_train_is_refused_at_the_start(
    tmp_path: Path, model: dict[str, Any], causal: bool, words: str
):
    data = {"kind": "Parity" if causal else "PointerChase", "options": {"length": 6}}
    config = small(tmp_path, model={"width": 16, **model}, data=data)
    with pytest.raises(UsageError, match=words) as refusal:
        build_all(config)
    assert refusal.value.why and refusal.value.write


def test_looking_at_a_block_draws_nothing_that_others_miss(tmp_path: Path):
    def weights() -> dict[str, Tensor]:
        config = small(tmp_path, model={"block": here(Ahead), "width": 16})
        torch.manual_seed(3)
        model, _ = build_model(config, build_task(config))
        assert isinstance(model.recurrence.block, PlainBlock) and model.training
        return {**model.state_dict(), "drawn": torch.rand(3)}

    torch.manual_seed(3)
    alone = torch.rand(3)
    assert torch.equal(weights()["drawn"], alone)


def test_a_rule_that_reads_logits_is_wired_into_a_model_of_ones_own(tmp_path: Path):
    config = small(tmp_path, model=OWN["model"])
    model, _ = build_model(config, build_task(config))
    model.use(FixedSteps(2))
    assert model.recurrence.head is None
    model.eval().use(ConfidenceExit(threshold=1e-6))
    output = model(torch.zeros(1, 4, dtype=torch.int64))
    assert (output.trace.steps == 1).all()
