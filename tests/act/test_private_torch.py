"""What stands on private parts of PyTorch: the version that it was seen to work with, and the public
way that gives the same gradients without them."""

import pytest
import torch
from torch import Tensor, nn

import act.caches.rewinding
import act.layers.compiled
import act.loop.transforms
from act import Block, FunctionalCache, Recurrence, RewindingCache, Slots
from act.layers.compiled import run
from act.testing import assert_close
from halting import GravesACT, UsageError

SEEN_WITH = ("2.13.0",)
"""Releases in which the tests of tests/act/caches/test_rewinding_cache.py and
tests/act/layers/test_compiled.py passed. Both stand on what PyTorch promises to nobody: the number
of the running backward pass, buffers that are written to behind autograd's back and wound back
before they are read, and the setting that forbids compiled code to reuse memory. act/loop/transforms.py
asks whether a transform of torch.func is going on."""

DIM = 8


def test_the_version_was_seen_to_work() -> None:
    release = torch.__version__.split("+")[0]
    assert release in SEEN_WITH, (
        f"PyTorch {release} has not been seen to work with act/caches/rewinding.py and "
        "act/layers/compiled.py, which use private parts of it. Run tests/act/caches and "
        f"tests/act/layers, on a GPU too; if they pass, add {release!r} to SEEN_WITH here. If they "
        "do not, let RewindingCache.available() or compiled._settings() say so, and the public "
        "way is taken."
    )


def test_the_private_parts_are_there() -> None:
    assert RewindingCache.available() and act.layers.compiled._autograd_settings is not None
    assert act.loop.transforms._functorch is not None and not act.loop.transforms.transforming()
    seen = torch.func.grad(lambda x: x * act.loop.transforms.transforming())(torch.ones(()))
    assert seen == 1, "a transform of torch.func is not noticed"


def outcome() -> tuple[list[Tensor], type]:
    """Output, mass and all gradients of a packed training run, and the cache that it took."""
    torch.manual_seed(2)
    block = Block(DIM, 2, num_kv_heads=1, num_layers=2, injection="concat")
    rule = GravesACT(DIM, bias_init=-0.5)
    nn.init.normal_(rule.gate.weight)
    loop = Recurrence(block, rule, max_steps=6).double()
    x = torch.randn(3, 5, DIM, dtype=torch.float64, requires_grad=True)
    state = loop.begin(x)
    cache = type(state.cache)
    while not state.done:
        state = loop.step(state)
    output, trace = loop.finish(state)
    assert len(trace.steps.unique()) > 2
    loss = output.sin().sum() + trace.mass.square().sum()
    return [output, trace.mass, *torch.autograd.grad(loss, [x, *loop.parameters()])], cache


def test_without_a_number_of_the_backward_pass_the_loop_copies_its_buffers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    private, cache = outcome()
    assert cache is RewindingCache
    monkeypatch.setattr(act.caches.rewinding, "_backward_pass", None)
    public, cache = outcome()
    assert cache is FunctionalCache
    for number, (mine, theirs) in enumerate(zip(public, private, strict=True)):
        assert_close(mine, theirs, f"tensor {number}")
    with pytest.raises(UsageError, match="RewindingCache does not work with PyTorch"):
        RewindingCache(None)


def test_without_the_setting_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager gives the same numbers, and a graph may be gone through again."""
    monkeypatch.setattr(act.layers.compiled, "_autograd_settings", None)
    monkeypatch.setattr(act.layers.compiled, "_compiled", None)
    torch.manual_seed(0)
    block = Block(DIM, 2, injection="concat").double()
    slots = Slots.of(torch.ones(2, 3, dtype=torch.bool))
    x = torch.randn(6, DIM, dtype=torch.float64, requires_grad=True)

    def gradients() -> list[Tensor]:
        made = block.step(x, x, slots, FunctionalCache(None)).state
        wanted = [x, *block.parameters()]
        once, twice = (
            torch.autograd.grad(made.sin().sum(), wanted, retain_graph=True) for _ in range(2)
        )
        assert all(torch.equal(*pair) for pair in zip(once, twice, strict=True))
        return list(once)

    eager = gradients()
    block.compile_parts()
    assert all(torch.equal(*pair) for pair in zip(gradients(), eager, strict=True))
    assert run(torch.neg, x, compiled=True).equal(-x)


def test_a_module_without_the_setting_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act.layers.compiled, "import_module", lambda name: torch.nn)
    assert act.layers.compiled._settings() is None

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(act.layers.compiled, "import_module", missing)
    assert act.layers.compiled._settings() is None
