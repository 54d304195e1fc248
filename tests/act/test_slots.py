"""Who stays and who leaves, and how often the host has to wait for the device to know."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import act.loop.recurrence
from act import Block, LoopedTransformer, Recurrence, generate
from act.slots import Slots, partition_on_cpu, partition_on_device
from halting import ExitGate, FixedSteps, GravesACT, HaltingRule, MaxSteps

DIM, LIMIT = 16, 6

LOOKS = {
    "aten._local_scalar_dense.default",
    "aten.nonzero.default",
    "aten.bincount.default",
    "aten.masked_select.default",
    "aten.is_nonzero.default",
    "aten.equal.default",
    "aten._unique2.default",
    "aten.repeat_interleave.Tensor",
}
"""Operators whose answer, or its shape, the host has to wait for."""


class Lists(TorchFunctionMode):
    """Counts tensors that become lists, which no operator tells of."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (Tensor.tolist, Tensor.numpy, Tensor.cpu):
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


class Looks(TorchDispatchMode):
    """Counts how often a device would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.lists = Lists(self.seen)

    def __enter__(self) -> "Looks":
        self.lists.__enter__()
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.lists.__exit__(*raised)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        masks = func.overloadpacket in (
            torch.ops.aten.index,
            torch.ops.aten.index_put,
            torch.ops.aten.index_put_,
        )
        by_mask = masks and any(each is not None and each.dtype == torch.bool for each in args[1])
        if str(func) in LOOKS or by_mask:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def looks(loop: Recurrence, x: Tensor, training: bool) -> tuple[int, int]:
    """How often the host looks in a run, and its steps; the first in each mode looks once more, at
    what a rule gives for the first time."""
    loop(x)
    with torch.set_grad_enabled(training), Looks() as counted:
        output, trace = loop(x)
        if training:
            output.sum().backward()
    return len(counted.seen), trace.num_steps


@pytest.fixture
def as_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act.loop.recurrence, "partition_slots", partition_on_device)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_the_host_waits_once_a_step(causal: bool, training: bool, as_on_a_device: None) -> None:
    loop = Recurrence(
        Block(DIM, 2, causal=causal, injection="concat"),
        GravesACT(DIM, bias_init=-0.5),
        max_steps=LIMIT,
    )
    torch.nn.init.normal_(loop.rule.gate.weight)
    waits, steps = looks(loop, torch.randn(4, 9, DIM), training)
    assert steps > 3 and waits == steps


@pytest.mark.parametrize(
    "rule",
    [FixedSteps(), MaxSteps(FixedSteps(), 4), ExitGate(DIM)],
    ids=lambda rule: type(rule).__name__,
)
def test_where_depth_is_known_it_waits_once_a_run(rule: HaltingRule, as_on_a_device: None) -> None:
    waits, steps = looks(
        Recurrence(Block(DIM, 2), rule, max_steps=LIMIT), torch.randn(4, 9, DIM), True
    )
    assert steps >= 4 and waits == 1


def test_decoding_waits_for_no_layer() -> None:
    """However many layers write into the cache of every step, each step of a token asks for its
    number once."""
    counts = []
    for layers in (1, 4):
        torch.manual_seed(0)
        model = LoopedTransformer(
            7, DIM, 2, FixedSteps(), max_steps=3, causal=True, num_layers=layers
        )
        with Looks() as counted:
            generate(model, torch.randint(7, (2, 4)), num_tokens=3)
        counts.append(len(counted.seen))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_one_look_divides_as_looking_does(share: float) -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        tokens = Slots.of(torch.rand(4, 6, generator=generator) < 0.8)
        leaves = torch.rand(len(tokens), generator=generator) < share
        one, other = partition_on_device(tokens, leaves), partition_on_cpu(tokens, leaves)
        if one is None or other is None:
            assert one is other and not leaves.any()
            continue
        rows = torch.arange(len(tokens))
        assert torch.equal(one.stay, other.stay) and torch.equal(rows[one.out], rows[other.out])
        for name in ("index", "row", "position", "step"):
            assert torch.equal(getattr(one.slots, name), getattr(other.slots, name))
        counts, width = one.slots.counted
        assert torch.equal(counts, other.slots.counted[0]) and width == other.slots.counted[1]
