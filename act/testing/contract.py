"""The six laws as tests, for anybody's halting rule.

Subclass `HaltingRuleContract` in a test file and let pytest collect it:

    class TestMyRule(HaltingRuleContract):
        def make_rule(self, dim: int) -> HaltingRule:
            return MyRule(dim)
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from act.blocks.block import Block
from act.loop.backprop import Backprop, Checkpointed, Truncated
from act.loop.recurrence import Recurrence
from act.testing import naive
from act.testing.probes import (
    BATCH,
    LENGTH,
    PADDINGS,
    TOLERANCE,
    Case,
    CutOff,
    FixedNoise,
    PoisonedBlock,
    Run,
    Spy,
    assert_close,
    decide_alone,
    decode,
    differentiable,
    gradients_of,
    memory_tensors,
    random_outcomes,
    view_alone,
)
from halting.costs.cost import PonderCost
from halting.errors import UsageError
from halting.mass import ledger_dtype
from halting.rule import HaltingRule
from halting.wrappers.max_steps import MaxSteps
from halting.wrappers.min_steps import MinSteps

__all__ = ["TOLERANCE", "FixedNoise", "HaltingRuleContract", "assert_close"]


class HaltingRuleContract:
    """The six laws of the loop, held with one rule in it. A test may be called by hand: it raises AssertionError.

    Attributes:
        dim: D of the block that the rule is tried with; even.
        max_steps: N, the step limit.
        uniform_depth: the rule means all tokens to leave at one step, so that isn't taken for a failure to exercise it.
        seeds: of the weights and inputs; seed modulo 3 says which padding (none, on the right, holes).
    """

    dim: int = 8
    max_steps: int = 4
    uniform_depth: bool = False
    seeds: tuple[int, ...] = (0, 7, 14)

    def make_rule(self, dim: int) -> HaltingRule:
        """The rule under test, for states of width `dim`."""
        raise NotImplementedError

    def prepare(self, rule: HaltingRule) -> None:
        """Makes tokens leave at widely different steps; all parameters normal, unless overridden."""
        for parameter in rule.parameters():
            nn.init.normal_(parameter)

    def make_cost(self, rule: HaltingRule) -> PonderCost | None:
        """The cost that trains the rule."""
        return rule.default_cost() if rule.default_cost is not None else None

    def make_recurrence(self, block: Block, rule: HaltingRule, **options: Any) -> Recurrence:
        """The loop under test."""
        return Recurrence(block, rule, **options)

    # What the tests are made of.

    def cases(self, *modes: bool) -> Iterator[Case]:
        """Every setting, in training (True) and evaluation (False) unless told which; evaluation, which goes through
        the same loop, is causal in every other one."""
        for seed in self.seeds:
            for causal in (False, True) if self.make_rule(self.dim).causal else (False,):
                for training in modes or (True, False):
                    if training or modes or causal == (seed % 2 == 0 and self.make_rule(self.dim).causal):
                        yield Case(seed, causal, training, PADDINGS[seed % len(PADDINGS)])

    def rule(self, case: Case) -> HaltingRule:
        """The rule with the weights of a case, in float64."""
        torch.manual_seed(case.seed)
        rule = self.make_rule(self.dim)
        with torch.no_grad():
            self.prepare(rule)
        return rule.double().train(case.training)

    def recurrence(
        self, case: Case, rule: HaltingRule | None = None, kind: type[Block] = Block, **options: Any
    ) -> Recurrence:
        """The loop with the weights of a case, in float64, its draws fixed."""
        rule = rule or self.rule(case)
        torch.manual_seed(100 + case.seed)
        block = kind(
            self.dim, 2, num_kv_heads=1, num_layers=2, causal=case.causal, injection="concat", step_signal="sinusoidal"
        ).double()
        head = torch.randn(11, self.dim, dtype=torch.float64)
        loop = self.make_recurrence(block, rule, **{"max_steps": self.max_steps, **options}).train(case.training)
        loop.draw = FixedNoise()
        if rule.reads_logits:
            loop.head = lambda state: state @ head.to(state.dtype).T
        return loop

    def run(self, loop: Recurrence, case: Case, x: Tensor | None = None, gradients: bool = False) -> Run:
        """Runs it; with gradients of everything that it returned, where asked for and in training."""
        x = case.input(self.dim) if x is None else x
        with torch.set_grad_enabled(case.training):
            output, trace = loop(x, case.valid, record_lens=True)
        tensors = differentiable(output, trace)
        wanted = {"input": x, **dict(loop.named_parameters())}
        return Run(output, trace, tensors, gradients_of(tensors, wanted) if gradients and case.training else {})

    # The laws.

    def test_tokens_leave_at_different_steps(self) -> None:
        """Or else the laws below would hold of nothing."""
        seen = [self.run(self.recurrence(case), case).trace.steps[case.tokens()] for case in self.cases()]
        assert self.uniform_depth or any(len(steps.unique()) > 1 for steps in seen), "all tokens leave at the same step"

    def test_law_1_mass_sums_to_one(self) -> None:
        for case in self.cases():
            for limit in (1, 2, self.max_steps):
                trace = self.run(self.recurrence(case, max_steps=limit), case).trace
                assert (trace.mass >= 0).all(), f"negative mass: {case}"
                assert_close(trace.mass.sum(-1), case.tokens().double(), f"sum of mass, limit {limit}, {case}")
                assert (trace.mass[~trace.ran] == 0).all(), f"mass on a step that did not run: {case}"
                assert trace.num_steps <= limit and (trace.steps <= limit).all()

    def test_law_2_a_halted_token_is_frozen(self) -> None:
        """What others do after a token left changes nothing of it."""
        for case in self.cases():
            whole = self.run(self.recurrence(case), case)
            for limit in range(1, self.max_steps):
                cut = self.run(self.recurrence(case, CutOff(self.rule(case), limit)), case)
                left = (whole.trace.steps <= limit) & case.tokens()
                assert torch.equal(cut.trace.steps[left], whole.trace.steps[left]), f"steps: {case}"
                assert_close(cut.output[left], whole.output[left], f"output of tokens that left by {limit}, {case}")
                steps = cut.trace.num_steps
                assert_close(cut.trace.mass[left], whole.trace.mass[left][:, :steps], f"mass, {case}")

    def test_law_2_halted_keys_and_values_stay(self) -> None:
        """Others go on attending to what a token wrote last: outputs and gradients are the specification's."""
        for case in self.cases():
            cut = case.training and case.seed % 2 and not self.rule(case).gain_reads_state
            for backprop in (Backprop(), Truncated(2)) if cut else (Backprop(),):
                loop, x = self.recurrence(case, backprop=backprop), case.input(self.dim)
                with torch.set_grad_enabled(case.training):
                    output, trace = loop(x, case.valid)
                    expected = naive.run(loop, x, case.valid)
                assert torch.equal(trace.steps, expected.steps), f"steps: {trace.steps} not {expected.steps}, {case}"
                assert_close(output, expected.output, f"output, {case}")
                assert_close(trace.mass, expected.mass, f"mass, {case}")
                if case.training:
                    wanted = {"input": x, **dict(loop.named_parameters())}
                    mine = gradients_of({"output": output, "mass": trace.mass}, wanted)
                    theirs = gradients_of({"output": expected.output, "mass": expected.mass}, wanted)
                    for name, gradient in mine.items():
                        assert_close(gradient, theirs[name], f"gradient of {name}, {backprop}, {case}")

    @pytest.mark.parametrize("backprop", [Backprop(), Checkpointed(), Truncated(2), Truncated(1)], ids=str)
    def test_law_3_packed_equals_dense(self, backprop: Backprop) -> None:
        if backprop.cuts and self.make_rule(self.dim).gain_reads_state:
            with pytest.raises(UsageError, match="cannot cut the gradient"):
                self.recurrence(next(self.cases(True)), backprop=backprop)
            return
        for case in self.cases(*([] if type(backprop) is Backprop else [True])):
            scheme = Backprop() if isinstance(backprop, Checkpointed) else backprop
            dense = self.run(self.recurrence(case, path="dense", backprop=scheme), case, gradients=True)
            packed = self.run(self.recurrence(case, path="packed", backprop=backprop), case, gradients=True)
            assert torch.equal(packed.trace.steps, dense.trace.steps), f"steps: {case}"
            assert packed.tensors.keys() == dense.tensors.keys()
            for name, tensor in packed.tensors.items():
                assert_close(tensor, dense.tensors[name], f"{name}, {case}")
            for name, gradient in packed.gradients.items():
                assert_close(gradient, dense.gradients[name], f"gradient of {name}, {case}")

    def test_law_4_a_sequence_alone_equals_itself_in_a_batch(self) -> None:
        for case in self.cases():
            x, loop = case.input(self.dim), self.recurrence(case)
            wanted = {"input": x, **dict(loop.named_parameters())}
            with torch.set_grad_enabled(case.training):
                output, trace = loop(x, case.valid)
            for row in range(BATCH):
                ragged = case.seed % len(PADDINGS) < 2
                one = (slice(row, row + 1), slice(int(case.tokens()[row].sum()) if ragged else LENGTH))
                loop.draw = FixedNoise((row,))
                with torch.set_grad_enabled(case.training):
                    alone, alone_trace = loop(x[one], None if ragged else case.tokens()[one])
                mass = trace.mass[one][..., : alone_trace.num_steps]
                assert torch.equal(trace.steps[one], alone_trace.steps), f"steps of row {row}, {case}"
                assert_close(alone, output[one], f"output of row {row}, {case}")
                assert_close(alone_trace.mass, mass, f"mass of row {row}, {case}")
                if case.training:
                    batched = gradients_of({"output": output[one], "mass": mass}, wanted)
                    for name, gradient in gradients_of({"output": alone, "mass": alone_trace.mass}, wanted).items():
                        assert_close(gradient, batched[name], f"gradient of {name}, row {row}, {case}")

    def test_law_4_nan_in_padding_and_idle_slots_changes_no_bit(self) -> None:
        for case in self.cases():
            for path in ("dense",) if case.valid is None else ("packed", "dense"):
                clean = self.run(self.recurrence(case, path=path), case, gradients=True)
                holes = torch.where(
                    case.tokens().unsqueeze(-1), case.input(self.dim).detach(), torch.nan
                ).requires_grad_()
                dirty = self.run(self.recurrence(case, path=path, kind=PoisonedBlock), case, holes, gradients=True)
                for name, tensor in clean.tensors.items():
                    assert torch.equal(dirty.tensors[name], tensor), f"{name}, {path}, {case}"
                for name, gradient in clean.gradients.items():
                    assert torch.equal(dirty.gradients[name], gradient), f"gradient of {name}, {path}, {case}"

    def test_law_4_padding_spends_nothing(self) -> None:
        for case in self.cases():
            run = self.run(self.recurrence(case), case, gradients=True)
            padding = ~case.tokens()
            assert torch.equal(run.trace.valid, case.tokens())
            assert (run.trace.steps[padding] == 0).all() and (run.trace.steps[~padding] >= 1).all(), f"steps: {case}"
            for name in ("output", "mass", "score"):
                assert (run.tensors[name][padding] == 0).all(), f"{name} on padding: {case}"
            ponder = self.rule(case).ponder(run.trace)
            assert ponder.shape == padding.shape and (ponder[padding] == 0).all(), f"ponder on padding: {case}"
            if case.training:
                assert (run.gradients["input"][padding] == 0).all(), f"gradient of padding: {case}"

    def test_law_5_halting_arithmetic_is_float32_or_wider(self) -> None:
        for case in self.cases():
            for narrow in (False, True):
                spy = Spy(self.rule(case))
                loop = self.recurrence(case, spy).to(torch.bfloat16 if narrow else torch.float32)
                x = case.input(self.dim).detach().to(torch.bfloat16 if narrow else torch.float32)
                with torch.set_grad_enabled(case.training), torch.autocast("cpu", torch.bfloat16, enabled=not narrow):
                    _, trace = loop(x, case.valid)
                said = [t for d in spy.decisions for t in (d.mass, d.score, d.gain, *d.aux.values()) if t is not None]
                for tensor in (trace.mass, trace.score, *trace.aux.values(), *said):
                    assert not tensor.is_floating_point() or ledger_dtype(tensor.dtype) == tensor.dtype, (
                        f"{tensor.dtype}"
                    )
                assert_close(trace.mass.sum(-1), case.tokens().float(), "sum of mass")

    def test_law_5_narrow_states_decide_like_wide_ones(self) -> None:
        """Given states (and weights) that bfloat16 holds exactly, a token's decision is that of float64."""
        for case in self.cases():
            narrow = self.rule(case).bfloat16()
            wide = copy.deepcopy(narrow).double()
            generator = torch.Generator().manual_seed(case.seed)
            shape = (self.max_steps + 1, BATCH * LENGTH)
            states = torch.randn(*shape, self.dim, generator=generator).bfloat16()
            logits = torch.randn(*shape, 11, generator=generator).bfloat16()
            with torch.no_grad():
                mass, steps = decide_alone(narrow, states, logits)
                wide_mass, wide_steps = decide_alone(wide, states.double(), logits.double())
            assert torch.equal(steps, wide_steps), f"tokens leave at other steps: {steps} not {wide_steps}, {case}"
            assert_close(mass, wide_mass, f"mass, {case}")

    def test_law_6_every_backward_reaches_everything(self) -> None:
        """When all leave at step 1, when nobody leaves before the limit, when no token is valid."""
        case, bare = next(self.cases(True)), self.make_rule(self.dim)
        limits: tuple[tuple[HaltingRule, Tensor | None], ...] = (
            (MaxSteps(self.rule(case), 1), PADDINGS[1]),
            (self.rule(case), torch.zeros(BATCH, LENGTH, dtype=torch.bool)),
        )
        if not bare.ranks_tokens:
            limits = (*limits, (MinSteps(self.rule(case), self.max_steps), PADDINGS[1]))
        for backprop, path in ((Backprop(), "packed"), (Checkpointed(), "packed"), (Truncated(1), "dense")):
            for rule, valid in limits if not (backprop.cuts and bare.gain_reads_state) else ():
                x, loop = case.input(self.dim), self.recurrence(case, rule, backprop=backprop, path=path)
                wanted = {"input": x, **dict(loop.named_parameters())}
                for name, tensor in differentiable(*loop(x, valid, record_lens=True)).items():
                    assert tensor.requires_grad, f"{name} carries no gradient"
                    found = torch.autograd.grad(
                        tensor.sum(), list(wanted.values()), retain_graph=True, allow_unused=True
                    )
                    for parameter, gradient in zip(wanted, found, strict=True):
                        assert gradient is not None, f"{parameter} is not reached from {name}"
                        assert gradient.isfinite().all(), f"gradient of {parameter} from {name}"

    # What the rule itself owes.

    def test_a_causal_rule_never_looks_ahead_and_any_other_is_refused(self) -> None:
        case = Case(0, True, False, None)
        rule = self.rule(case)
        if not rule.causal:
            with pytest.raises(UsageError, match="causal"):
                self.recurrence(case, rule)
            return
        for training in (True, False):
            case = replace(case, training=training)
            x, other = case.input(self.dim).detach(), case.input(self.dim).detach()
            other[:, -1] += 1
            before, after = (self.run(self.recurrence(case), case, each.requires_grad_()) for each in (x, other))
            steps = min(before.trace.num_steps, after.trace.num_steps)
            assert torch.equal(before.trace.steps[:, :-1], after.trace.steps[:, :-1]), "steps depend on a later token"
            assert_close(before.output[:, :-1], after.output[:, :-1], "outputs before the token that changed")
            assert_close(before.trace.mass[:, :-1, :steps], after.trace.mass[:, :-1, :steps], "mass before it")

    def test_decoding_is_the_parallel_pass(self) -> None:
        """One token at a time, with the keys and values of every step kept, each thinks as long and says the same as in
        the whole sequence."""
        if not self.make_rule(self.dim).causal:
            pytest.skip("the rule cannot decode")
        for seed in self.seeds:
            loop, x = self.recurrence(case := Case(seed, True, False, None)), case.input(self.dim).detach()
            whole = self.run(loop, case, x)
            output, steps = decode(loop, x)
            assert torch.equal(steps, whole.trace.steps), f"steps: {steps} not {whole.trace.steps}, {case}"
            assert_close(output, whole.output, f"output, {case}")

    def test_max_steps_around_it_is_the_step_limit(self) -> None:
        """To the rule inside, too: what it says, means and costs is what it would under that limit."""
        for case in self.cases():
            for limit in range(1, self.max_steps):
                around = self.recurrence(case, MaxSteps(self.rule(case), limit))
                loop = self.recurrence(case, max_steps=limit)
                wrapped, limited = self.run(around, case, gradients=True), self.run(loop, case, gradients=True)
                assert torch.equal(wrapped.trace.steps, limited.trace.steps), f"steps, limit {limit}, {case}"
                assert wrapped.trace.aux.keys() == limited.trace.aux.keys()
                for name, said in limited.trace.aux.items():
                    assert_close(wrapped.trace.aux[name], said, f"{name}, limit {limit}, {case}")
                for name, tensor in limited.tensors.items():
                    assert_close(wrapped.tensors[name], tensor, f"{name}, limit {limit}, {case}")
                for name, gradient in limited.gradients.items():
                    within = name.replace("rule.", "rule.rule.", 1)
                    assert_close(wrapped.gradients[within], gradient, f"gradient of {name}, limit {limit}, {case}")
                ponder = loop.rule.ponder(limited.trace)
                assert_close(around.rule.ponder(wrapped.trace), ponder, f"ponder, limit {limit}, {case}")

    def test_decisions_have_one_row_a_token(self) -> None:
        for case in self.cases():
            for count in (0, 1, 7):
                rule = self.rule(case)
                view = view_alone(
                    torch.randn(count, self.dim).double(), torch.randn(count, 11).double(), 1, self.max_steps
                )
                memory, gain = rule.begin(view)
                assert gain is None or gain.shape == (count,)
                decision, memory = rule.decide(view, memory)
                assert decision.mass.shape == decision.score.shape == decision.halt.shape == (count,)
                assert decision.halt.dtype == torch.bool
                assert decision.aux.keys() == set(rule.gives_aux), f"gives_aux is {rule.gives_aux}"
                assert decision.gain is None or decision.gain.shape == (count,)
                for name, value in (
                    *decision.aux.items(),
                    *((f"memory {i}", m) for i, m in enumerate(memory_tensors(memory))),
                ):
                    assert value.shape[:1] == (count,), f"{name} has {value.shape[0]} rows for {count} tokens"
                for value in (decision.mass, decision.score):
                    assert value.isfinite().all(), "mass and score must be finite"

    def test_the_state_dict_holds_all_that_decides(self) -> None:
        for case in self.cases(False):
            loop = self.recurrence(case)
            torch.manual_seed(1234)
            fresh = self.make_rule(self.dim).double().eval()
            fresh.load_state_dict(loop.rule.state_dict())
            again = self.run(self.recurrence(case, fresh), case)
            run = self.run(loop, case)
            assert torch.equal(run.trace.steps, again.trace.steps), f"steps after loading: {case}"
            assert torch.equal(run.trace.mass, again.trace.mass), f"mass after loading: {case}"

    def test_the_cost_trains_the_gate_and_spares_padding(self) -> None:
        """A cost on the bare count of steps, seen in public code, trains nothing."""
        if self.make_cost(self.make_rule(self.dim)) is None:
            pytest.skip("the rule has no cost")
        for case in self.cases(True):
            loop = self.recurrence(case)
            cost = self.make_cost(loop.rule)
            assert cost is not None
            _, trace = loop(case.input(self.dim), case.valid)
            value = cost(trace, random_outcomes(trace) if cost.needs_outcomes else None)
            assert value.shape == trace.steps.shape and value.isfinite().all(), f"cost {value}"
            assert (value[~trace.valid] == 0).all(), "padding costs something"
            found = torch.autograd.grad(value.sum(), [p for p in loop.rule.parameters() if p.requires_grad])
            assert any((g != 0).any() for g in found) or trace.steps.max() == 1, "the cost's gradient misses the gate"
