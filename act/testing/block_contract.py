"""What the loop asks of a block, as tests, for anybody's.

Subclass `BlockContract` in a test file and let pytest collect it:

    class TestMyBlock(BlockContract):
        def make_block(self, dim: int, causal: bool) -> LoopBlock:
            return MyBlock(dim, causal=causal)
"""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from act.blocks.batch_independence import check_batch_independence
from act.blocks.block import BlockStep, LoopBlock
from act.caches.cache import FunctionalCache
from act.context import NO_CONTEXT, LoopContext
from act.loop.backprop import Backprop, Checkpointed, LastSteps, Truncated
from act.loop.recurrence import Recurrence
from act.slots import LoopPath, Slots
from act.testing import naive
from act.testing.probes import BATCH, LENGTH, PADDINGS, assert_close, gradients_of
from halting.errors import UsageError
from halting.readout import FinalState
from halting.rules.fixed_steps import FixedSteps
from halting.rules.graves_act import GravesACT

_SCHEMES = (Backprop(), Checkpointed(), Truncated(1), Truncated(2), LastSteps(1), LastSteps(2))
_SEED = 5


@dataclass(frozen=True)
class BlockRun:
    """What a run gave, its gradients, and what is drawn after them.

    Args:
        tensors: by name; [B L ...] each.
        gradients: of all of them, by what they were taken to.
        next_draw: [1].
    """

    tensors: dict[str, Tensor]
    gradients: dict[str, Tensor]
    next_draw: Tensor

    def check_same(self, expected: "BlockRun", what: str) -> None:
        """That it is what was expected, within the tolerance."""
        assert self.tensors.keys() == expected.tensors.keys()
        for name, tensor in self.tensors.items():
            assert_close(tensor, expected.tensors[name], f"{name}, {what}")
        for name, gradient in self.gradients.items():
            assert_close(gradient, expected.gradients[name], f"gradient of {name}, {what}")
        assert torch.equal(self.next_draw, expected.next_draw), f"what is drawn next, {what}"


class BlockContract:
    """What a looped block has to be. A test may be called by hand: it raises AssertionError.

    The block is made in its ordinary way, dropout and all: in training it draws, and runs that are
    compared draw under one seed.

    Attributes:
        dim: D of the block; even.
        max_steps: N, the step limit.
        causal: the values of `causal` that it can be made with.
        takes_padding: it can be given batches with padding; else it has to refuse them.
    """

    dim: int = 8
    max_steps: int = 4
    causal: tuple[bool, ...] = (False, True)
    takes_padding: bool = True

    def make_block(self, dim: int, causal: bool) -> LoopBlock:
        """The block under test, for states of width `dim`."""
        raise NotImplementedError

    def make_context(self) -> LoopContext:
        """What the block reads beside the states of three sequences of four positions, float64."""
        return NO_CONTEXT

    def block(
        self, causal: bool, training: bool = False, dtype: torch.dtype = torch.float64
    ) -> LoopBlock:
        """The block, always with the same weights."""
        torch.manual_seed(3)
        block = self.make_block(self.dim, causal).to(dtype).train(training)
        block.batch_independent = True  # a test of its own looks at it, so the loop need not
        return block

    def loop(
        self,
        causal: bool,
        training: bool = False,
        backprop: Backprop | None = None,
        path: LoopPath | None = None,
    ) -> Recurrence:
        """A loop that tokens leave at different steps."""
        block = self.block(causal, training)
        rule = GravesACT(self.dim, bias_init=-0.5).double()
        torch.manual_seed(4)
        torch.nn.init.normal_(rule.gate.weight)
        limit = self.max_steps
        loop = Recurrence(block, rule, max_steps=limit, path=path, backprop=backprop)
        return loop.train(training)

    def fixed_loop(self, block: LoopBlock, backprop: Backprop) -> Recurrence:
        """A loop that all tokens leave at the step limit, on the dense path."""
        rule = FixedSteps().to(next(block.parameters(), torch.zeros(())).dtype)
        limit = self.max_steps
        loop = Recurrence(
            block, rule, FinalState(), max_steps=limit, path="dense", backprop=backprop
        )
        return loop.train(block.training)

    def input(self) -> Tensor:
        """[B L D] float64 that wants a gradient."""
        generator = torch.Generator().manual_seed(0)
        shape = (BATCH, LENGTH, self.dim)
        return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()

    def run(
        self,
        loop: Recurrence,
        valid: Tensor | None = None,
        x: Tensor | None = None,
        rows: slice = slice(None),
    ) -> BlockRun:
        """A run over the input or some of its rows, with the gradients of all that it gave."""
        x = self.input() if x is None else x
        context = self.make_context().rows(list(range(BATCH))[rows])
        torch.manual_seed(_SEED)
        output, trace = loop(x[rows], valid, context=context)
        tensors = {"output": output, "mass": trace.mass}
        if trace.block_loss is not None:
            tensors["block_loss"] = trace.block_loss
        wanted = {"input": x, **dict(loop.named_parameters())}
        return BlockRun(tensors, gradients_of(tensors, wanted), torch.rand(1))

    def test_a_step_keeps_shape_and_dtype(self) -> None:
        """Of the states, in every dtype; an auxiliary loss is one number a token."""
        for causal in self.causal:
            for dtype in (torch.float64, torch.float32, torch.bfloat16):
                for training in (False, True):
                    block = self.block(causal, training, dtype)
                    step = _step(block, self.input().to(dtype), _in(dtype, self.make_context()))
                    for name, tensor in (("entering", step.entering), ("state", step.state)):
                        shape = tuple(tensor.shape)
                        assert shape == (BATCH * LENGTH, self.dim), f"{name} has shape {shape}"
                        assert tensor.dtype == dtype, f"{name} is {tensor.dtype} for {dtype}"
                        assert tensor.isfinite().all(), f"{name} is not finite in {dtype}"
                    if step.aux_loss is not None:
                        shape = tuple(step.aux_loss.shape)
                        assert shape == (BATCH * LENGTH,), f"the auxiliary loss has shape {shape}"
                        assert step.aux_loss.isfinite().all(), "the auxiliary loss is not finite"

    def test_it_trains_under_autocast(self) -> None:
        """Weights in float32, products in bfloat16; the same where steps are computed again."""
        found = []
        for backprop in (Backprop(), Checkpointed()):
            block = self.block(self.causal[0], True, torch.float32)
            x = self.input().detach().float().requires_grad_()
            torch.manual_seed(_SEED)
            with torch.autocast("cpu", torch.bfloat16):
                context = _in(torch.float32, self.make_context())
                output, _ = self.fixed_loop(block, backprop)(x, context=context)
            found.append(torch.autograd.grad(output.float().square().sum(), x)[0])
        assert found[0].isfinite().all(), "a gradient is not finite"
        assert_close(found[1], found[0], "gradient of what is computed again")

    @pytest.mark.parametrize("backprop", _SCHEMES, ids=str)
    def test_gradients_are_those_of_a_plain_loop(self, backprop: Backprop) -> None:
        """Every scheme against the steps written out; and what is drawn after the backward pass is
        what it would have been."""
        for causal in self.causal:
            block = self.block(causal, True)
            wanted = dict(block.named_parameters())
            loop = self.fixed_loop(block, backprop)
            x = self.input()
            torch.manual_seed(_SEED)
            output, trace = loop(x, context=self.make_context())
            tensors = {"output": output}
            if trace.block_loss is not None:
                tensors["block_loss"] = trace.block_loss
            mine = BlockRun(tensors, gradients_of(tensors, {**wanted, "x": x}), torch.rand(1))
            block.load_state_dict(self.block(causal, True).state_dict())
            torch.manual_seed(_SEED)
            tensors = self._plain_loop(block, backprop, x)
            theirs = BlockRun(tensors, gradients_of(tensors, {**wanted, "x": x}), torch.rand(1))
            mine.check_same(theirs, f"{backprop}, causal={causal}")

    def test_gradients_are_the_same_computed_again(self) -> None:
        """Where tokens leave at different steps, on every path."""
        for causal in self.causal:
            for path in ("dense", "packed") if self.block(causal).packable else ("dense",):
                again = self.run(self.loop(causal, True, Checkpointed(), path))
                once = self.run(self.loop(causal, True, Backprop(), path))
                again.check_same(once, f"{path}, causal={causal}")

    def test_no_sequence_sees_another(self) -> None:
        """In evaluation and in training, forwards and backwards."""
        for causal in self.causal:
            for training in (False, True):
                block = self.block(causal, training)
                x = self.input()
                pair = self.make_context().rows([0, 1])
                try:
                    check_batch_independence(block, LENGTH, self.dim, x, pair)
                except UsageError as error:
                    raise AssertionError(error.what) from error
                state = _step(block, x, self.make_context()).state.view(x.shape)
                (found,) = torch.autograd.grad(state[0].sum(), x)
                assert (found[1:] == 0).all(), "a sequence's gradient reaches another"

    def test_a_sequence_alone_equals_itself_in_a_batch(self) -> None:
        for causal in self.causal:
            whole = self.run(self.loop(causal))
            for row in range(BATCH):
                rows = slice(row, row + 1)
                alone = self.run(self.loop(causal), rows=rows)
                for name, tensor in alone.tensors.items():
                    batched = whole.tensors[name][rows][..., : tensor.shape[-1]]
                    assert_close(tensor, batched, f"{name} of row {row}, causal={causal}")

    def test_padding_reaches_nobody(self) -> None:
        """Whatever stands on padding, also NaN, changes no bit, and a padded sequence is the short
        one."""
        for causal in self.causal:
            for training, valid in enumerate(PADDINGS[1:]):
                assert valid is not None
                if not self.takes_padding:
                    with pytest.raises(UsageError):
                        self.run(self.loop(causal), valid)
                    continue
                loop = self.loop(causal, bool(training))
                clean = self.run(loop, valid)
                holes = torch.where(valid.unsqueeze(-1), self.input().detach(), torch.nan)
                dirty = self.run(loop, valid, holes.requires_grad_())
                for name, tensor in clean.tensors.items():
                    same = torch.equal(dirty.tensors[name], tensor)
                    assert same, f"{name} shows what stands on padding, causal={causal}"
                for name, gradient in clean.gradients.items():
                    same = torch.equal(dirty.gradients[name], gradient)
                    assert same, f"the gradient of {name} shows what stands on padding"
                assert (clean.gradients["input"][~valid] == 0).all(), "padding has a gradient"
                if not training and not self.make_context().given:
                    self._check_cut_short(causal, valid)

    def test_a_causal_block_looks_not_ahead(self) -> None:
        if True not in self.causal:
            pytest.skip("it is never causal")
        for training in (False, True):
            block = self.block(True, training)
            assert block.causal, "made with causal=True, its `causal` is False"
            for position in range(1, LENGTH):
                x = self.input()
                state = _step(block, x, self.make_context()).state.view(x.shape)
                (found,) = torch.autograd.grad(state[:, :position].sum(), x)
                assert (found[:, position:] == 0).all(), f"position {position - 1} looks ahead"

    def test_packed_equals_dense(self) -> None:
        """Where it says that it computes any set of slots; in evaluation mode, where nothing is
        drawn."""
        if not self.block(self.causal[0]).packable:
            with pytest.raises(UsageError, match="packed"):
                self.loop(self.causal[0], path="packed")
            return
        for causal in self.causal:
            for valid in PADDINGS if self.takes_padding else PADDINGS[:1]:
                packed = self.run(self.loop(causal, path="packed"), valid)
                dense = self.run(self.loop(causal, path="dense"), valid)
                packed.check_same(dense, f"packed, causal={causal}")

    def test_documents_see_themselves_alone(self) -> None:
        """Where several stand in one row and the block reads which."""
        for causal in self.causal:
            block = self.block(causal)
            if "documents" not in block.reads_context:
                pytest.skip("it reads no documents")
            documents = torch.tensor([[0, 0, 1, 1]]).expand(BATCH, LENGTH)
            x = self.input()
            context = replace(self.make_context(), documents=documents)
            state = _step(block, x, context).state.view(x.shape)
            (found,) = torch.autograd.grad(state[:, 2:].sum(), x)
            assert (found[:, :2] == 0).all(), "a document sees another"

    def test_evaluation_draws_nothing(self) -> None:
        for causal in self.causal:
            block = self.block(causal)
            x = self.input()
            first = _step(block, x, self.make_context()).state
            torch.manual_seed(_SEED + 1)
            before = torch.get_rng_state()
            flat = x.flatten(0, 1)
            again = block.step(
                flat, flat, Slots.everywhere(x), FunctionalCache(None), self.make_context()
            ).state
            assert torch.equal(torch.get_rng_state(), before), "it draws in evaluation mode"
            assert torch.equal(again, first), "the same input gives another state the second time"

    def test_the_state_dict_holds_all_of_it(self) -> None:
        for causal in self.causal:
            block = self.block(causal)
            torch.manual_seed(1234)
            fresh = self.make_block(self.dim, causal).double().eval()
            fresh.load_state_dict(block.state_dict())
            states = [
                _step(each, self.input(), self.make_context()).state for each in (block, fresh)
            ]
            assert torch.equal(*states), "another state after loading"

    def test_its_naive_form_is_the_same(self) -> None:
        """Where it has one."""
        if type(self.block(self.causal[0])).naive_step is LoopBlock.naive_step:
            pytest.skip("it has no naive form")
        for causal in self.causal:
            for valid in PADDINGS if self.takes_padding else PADDINGS[:1]:
                loop = self.loop(causal)
                expected = naive.run(loop, self.input(), valid)
                output = self.run(loop, valid).tensors["output"]
                assert_close(output, expected.output, f"output, causal={causal}")

    def _plain_loop(self, block: LoopBlock, backprop: Backprop, x: Tensor) -> dict[str, Tensor]:
        slots = Slots.everywhere(x)
        cache = FunctionalCache(None)
        inputs = state = x.flatten(0, 1)
        losses = []
        for number in range(1, self.max_steps + 1):
            if backprop.cuts_before(number, self.max_steps):
                state = state.detach()
                cache = cache.detach()
            step = block.step(state, inputs, slots, cache, self.make_context())
            state = step.state
            cache = step.cache
            if step.aux_loss is not None:
                losses.append(block.aux_weight * step.aux_loss.view(BATCH, LENGTH))
            slots = slots.next_step()
        tensors = {"output": state.view(x.shape)}
        return {**tensors, "block_loss": torch.stack(losses, -1)} if losses else tensors

    def _check_cut_short(self, causal: bool, valid: Tensor) -> None:
        padded = self.run(self.loop(causal), valid).tensors["output"]
        for row in range(BATCH):
            length = int(valid[row].sum())
            x = self.input()[row : row + 1, :length]
            alone, _ = self.loop(causal)(x)
            what = f"row {row} without its padding, causal={causal}"
            assert_close(alone, padded[row : row + 1, :length], what)


def _step(block: LoopBlock, x: Tensor, context: LoopContext) -> BlockStep:
    flat = x.flatten(0, 1)
    torch.manual_seed(_SEED)
    return block.step(flat, flat, Slots.everywhere(x), FunctionalCache(None), context)


def _in(dtype: torch.dtype, context: LoopContext) -> LoopContext:
    """The context with its numbers in another dtype."""

    def cast(value: Tensor | None) -> Tensor | None:
        return value.to(dtype) if value is not None and value.is_floating_point() else value

    return replace(
        context,
        memory=cast(context.memory),
        noise_level=cast(context.noise_level),
        extra={
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in context.extra.items()
        },
    )
