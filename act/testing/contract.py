"""The six laws as tests, for anybody's halting rule.

Subclass `HaltingRuleContract` in a test file and let pytest collect it:

    class TestMyRule(HaltingRuleContract):
        def make_rule(self, dim: int) -> HaltingRule:
            return MyRule(dim)
"""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from act.loop.backprop import Backprop, Checkpointed, Truncated
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
    Spy,
    assert_close,
    decide_alone,
    decode,
    differentiable,
    gradients_of,
)
from act.testing.seam import RuleSeamTests
from halting.errors import UsageError
from halting.mass import halting_dtype
from halting.rule import HaltingRule
from halting.wrappers.max_steps import MaxSteps
from halting.wrappers.min_steps import MinSteps

__all__ = ["TOLERANCE", "FixedNoise", "HaltingRuleContract", "assert_close"]


class HaltingRuleContract(RuleSeamTests):
    """The six laws of the loop, held with one rule in it. A test may be called by hand: it raises
    AssertionError. Its attributes are those of `RuleCases`."""

    def test_tokens_leave_at_different_steps(self) -> None:
        """Or else the laws below would hold of nothing."""
        seen = [
            self.run(self.recurrence(case), case).trace.steps[case.tokens()]
            for case in self.cases()
        ]
        assert self.uniform_depth or any(len(steps.unique()) > 1 for steps in seen), (
            "all tokens leave at the same step"
        )

    def test_law_1_mass_sums_to_one(self) -> None:
        for case in self.cases():
            for limit in (1, 2, self.max_steps):
                trace = self.run(self.recurrence(case, max_steps=limit), case).trace
                assert (trace.mass >= 0).all(), f"negative mass: {case}"
                assert_close(
                    trace.mass.sum(-1),
                    case.tokens().double(),
                    f"sum of mass, limit {limit}, {case}",
                )
                assert (trace.mass[~trace.ran] == 0).all(), (
                    f"mass on a step that did not run: {case}"
                )
                assert trace.num_steps <= limit and (trace.steps <= limit).all()

    def test_law_2_a_halted_token_is_frozen(self) -> None:
        """What others do after a token left changes nothing of it."""
        for case in self.cases():
            whole = self.run(self.recurrence(case), case)
            for limit in range(1, self.max_steps):
                cut = self.run(self.recurrence(case, CutOff(self.rule(case), limit)), case)
                left = (whole.trace.steps <= limit) & case.tokens()
                assert torch.equal(cut.trace.steps[left], whole.trace.steps[left]), f"steps: {case}"
                assert_close(
                    cut.output[left],
                    whole.output[left],
                    f"output of tokens that left by {limit}, {case}",
                )
                steps = cut.trace.num_steps
                assert_close(
                    cut.trace.mass[left], whole.trace.mass[left][:, :steps], f"mass, {case}"
                )

    def test_law_2_halted_keys_and_values_stay(self) -> None:
        """Others go on attending to what a token wrote last: outputs and gradients are the
        specification's."""
        for case in self.cases():
            cut = case.training and case.seed % 2 and not self.rule(case).gain_reads_state
            for backprop in (Backprop(), Truncated(2)) if cut else (Backprop(),):
                loop = self.recurrence(case, backprop=backprop)
                x = case.input(self.dim)
                with torch.set_grad_enabled(case.training):
                    output, trace = loop(x, case.valid)
                    expected = naive.run(loop, x, case.valid)
                assert torch.equal(trace.steps, expected.steps), (
                    f"steps: {trace.steps} not {expected.steps}, {case}"
                )
                assert_close(output, expected.output, f"output, {case}")
                assert_close(trace.mass, expected.mass, f"mass, {case}")
                if case.training:
                    wanted = {"input": x, **dict(loop.named_parameters())}
                    mine = gradients_of({"output": output, "mass": trace.mass}, wanted)
                    theirs = gradients_of(
                        {"output": expected.output, "mass": expected.mass}, wanted
                    )
                    for name, gradient in mine.items():
                        assert_close(
                            gradient, theirs[name], f"gradient of {name}, {backprop}, {case}"
                        )

    @pytest.mark.parametrize(
        "backprop", [Backprop(), Checkpointed(), Truncated(2), Truncated(1)], ids=str
    )
    def test_law_3_packed_equals_dense(self, backprop: Backprop) -> None:
        if backprop.cuts and self.make_rule(self.dim).gain_reads_state:
            with pytest.raises(UsageError, match="cannot cut the gradient"):
                self.recurrence(next(self.cases(True)), backprop=backprop)
            return
        for case in self.cases(*([] if type(backprop) is Backprop else [True])):
            scheme = Backprop() if isinstance(backprop, Checkpointed) else backprop
            dense = self.run(
                self.recurrence(case, path="dense", backprop=scheme), case, gradients=True
            )
            packed = self.run(
                self.recurrence(case, path="packed", backprop=backprop), case, gradients=True
            )
            assert torch.equal(packed.trace.steps, dense.trace.steps), f"steps: {case}"
            assert packed.tensors.keys() == dense.tensors.keys()
            for name, tensor in packed.tensors.items():
                assert_close(tensor, dense.tensors[name], f"{name}, {case}")
            for name, gradient in packed.gradients.items():
                assert_close(gradient, dense.gradients[name], f"gradient of {name}, {case}")

    def test_law_4_a_sequence_alone_equals_itself_in_a_batch(self) -> None:
        for case in self.cases():
            x = case.input(self.dim)
            loop = self.recurrence(case)
            wanted = {"input": x, **dict(loop.named_parameters())}
            with torch.set_grad_enabled(case.training):
                output, trace = loop(x, case.valid)
            for row in range(BATCH):
                ragged = case.seed % len(PADDINGS) < 2
                one = (
                    slice(row, row + 1),
                    slice(int(case.tokens()[row].sum()) if ragged else LENGTH),
                )
                loop.draw = FixedNoise((row,))
                with torch.set_grad_enabled(case.training):
                    alone, alone_trace = loop(x[one], None if ragged else case.tokens()[one])
                mass = trace.mass[one][..., : alone_trace.num_steps]
                assert torch.equal(trace.steps[one], alone_trace.steps), (
                    f"steps of row {row}, {case}"
                )
                assert_close(alone, output[one], f"output of row {row}, {case}")
                assert_close(alone_trace.mass, mass, f"mass of row {row}, {case}")
                if case.training:
                    batched = gradients_of({"output": output[one], "mass": mass}, wanted)
                    for name, gradient in gradients_of(
                        {"output": alone, "mass": alone_trace.mass}, wanted
                    ).items():
                        assert_close(
                            gradient, batched[name], f"gradient of {name}, row {row}, {case}"
                        )

    def test_law_4_nan_in_padding_and_idle_slots_changes_no_bit(self) -> None:
        for case in self.cases():
            for path in ("dense",) if case.valid is None else ("packed", "dense"):
                clean = self.run(self.recurrence(case, path=path), case, gradients=True)
                holes = torch.where(
                    case.tokens().unsqueeze(-1), case.input(self.dim).detach(), torch.nan
                ).requires_grad_()
                dirty = self.run(
                    self.recurrence(case, path=path, kind=PoisonedBlock),
                    case,
                    holes,
                    gradients=True,
                )
                for name, tensor in clean.tensors.items():
                    assert torch.equal(dirty.tensors[name], tensor), f"{name}, {path}, {case}"
                for name, gradient in clean.gradients.items():
                    assert torch.equal(dirty.gradients[name], gradient), (
                        f"gradient of {name}, {path}, {case}"
                    )

    def test_law_4_padding_spends_nothing(self) -> None:
        for case in self.cases():
            run = self.run(self.recurrence(case), case, gradients=True)
            padding = ~case.tokens()
            assert torch.equal(run.trace.valid, case.tokens())
            assert (run.trace.steps[padding] == 0).all() and (
                run.trace.steps[~padding] >= 1
            ).all(), f"steps: {case}"
            for name in ("output", "mass", "score"):
                assert (run.tensors[name][padding] == 0).all(), f"{name} on padding: {case}"
            ponder = self.rule(case).ponder(run.trace)
            assert ponder.shape == padding.shape and (ponder[padding] == 0).all(), (
                f"ponder on padding: {case}"
            )
            if case.training:
                assert (run.gradients["input"][padding] == 0).all(), f"gradient of padding: {case}"

    def test_law_5_halting_arithmetic_is_float32_or_wider(self) -> None:
        for case in self.cases():
            for narrow in (False, True):
                spy = Spy(self.rule(case))
                loop = self.recurrence(case, spy).to(torch.bfloat16 if narrow else torch.float32)
                x = case.input(self.dim).detach().to(torch.bfloat16 if narrow else torch.float32)
                with (
                    torch.set_grad_enabled(case.training),
                    torch.autocast("cpu", torch.bfloat16, enabled=not narrow),
                ):
                    _, trace = loop(x, case.valid)
                said = [
                    t
                    for d in spy.decisions
                    for t in (d.mass, d.score, d.gain, *d.aux.values())
                    if t is not None
                ]
                for tensor in (trace.mass, trace.score, *trace.aux.values(), *said):
                    assert (
                        not tensor.is_floating_point()
                        or halting_dtype(tensor.dtype) == tensor.dtype
                    ), f"{tensor.dtype}"
                assert_close(trace.mass.sum(-1), case.tokens().float(), "sum of mass")

    def test_law_5_narrow_states_decide_like_wide_ones(self) -> None:
        """Given states (and weights) that bfloat16 holds exactly, a token's decision is that of
        float64."""
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
            assert torch.equal(steps, wide_steps), (
                f"tokens leave at other steps: {steps} not {wide_steps}, {case}"
            )
            assert_close(mass, wide_mass, f"mass, {case}")

    def test_law_6_every_backward_reaches_everything(self) -> None:
        """When all leave at step 1, when nobody leaves before the limit, when no token is valid."""
        case = next(self.cases(True))
        bare = self.make_rule(self.dim)
        limits: tuple[tuple[HaltingRule, Tensor | None], ...] = (
            (MaxSteps(self.rule(case), 1), PADDINGS[1]),
            (self.rule(case), torch.zeros(BATCH, LENGTH, dtype=torch.bool)),
        )
        if not bare.ranks_tokens:
            limits = (*limits, (MinSteps(self.rule(case), self.max_steps), PADDINGS[1]))
        for backprop, path in (
            (Backprop(), "packed"),
            (Checkpointed(), "packed"),
            (Truncated(1), "dense"),
        ):
            for rule, valid in limits if not (backprop.cuts and bare.gain_reads_state) else ():
                x = case.input(self.dim)
                loop = self.recurrence(case, rule, backprop=backprop, path=path)
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
            x = case.input(self.dim).detach()
            other = case.input(self.dim).detach()
            other[:, -1] += 1
            before, after = (
                self.run(self.recurrence(case), case, each.requires_grad_()) for each in (x, other)
            )
            steps = min(before.trace.num_steps, after.trace.num_steps)
            assert torch.equal(before.trace.steps[:, :-1], after.trace.steps[:, :-1]), (
                "steps depend on a later token"
            )
            assert_close(
                before.output[:, :-1], after.output[:, :-1], "outputs before the token that changed"
            )
            assert_close(
                before.trace.mass[:, :-1, :steps],
                after.trace.mass[:, :-1, :steps],
                "mass before it",
            )

    def test_decoding_is_the_parallel_pass(self) -> None:
        """One token at a time, with the keys and values of every step kept, each thinks as long and
        says the same as in the whole sequence."""
        if not self.make_rule(self.dim).causal:
            pytest.skip("the rule cannot decode")
        for seed in self.seeds:
            loop = self.recurrence(case := Case(seed, True, False, None))
            x = case.input(self.dim).detach()
            whole = self.run(loop, case, x)
            output, steps = decode(loop, x)
            assert torch.equal(steps, whole.trace.steps), (
                f"steps: {steps} not {whole.trace.steps}, {case}"
            )
            assert_close(output, whole.output, f"output, {case}")

    def test_max_steps_around_it_is_the_step_limit(self) -> None:
        """To the rule inside, too: what it says, means and costs is what it would under that
        limit."""
        for case in self.cases():
            for limit in range(1, self.max_steps):
                around = self.recurrence(case, MaxSteps(self.rule(case), limit))
                loop = self.recurrence(case, max_steps=limit)
                wrapped = self.run(around, case, gradients=True)
                limited = self.run(loop, case, gradients=True)
                assert torch.equal(wrapped.trace.steps, limited.trace.steps), (
                    f"steps, limit {limit}, {case}"
                )
                assert wrapped.trace.aux.keys() == limited.trace.aux.keys()
                for name, said in limited.trace.aux.items():
                    assert_close(wrapped.trace.aux[name], said, f"{name}, limit {limit}, {case}")
                for name, tensor in limited.tensors.items():
                    assert_close(wrapped.tensors[name], tensor, f"{name}, limit {limit}, {case}")
                for name, gradient in limited.gradients.items():
                    within = name.replace("rule.", "rule.rule.", 1)
                    assert_close(
                        wrapped.gradients[within],
                        gradient,
                        f"gradient of {name}, limit {limit}, {case}",
                    )
                ponder = loop.rule.ponder(limited.trace)
                assert_close(
                    around.rule.ponder(wrapped.trace), ponder, f"ponder, limit {limit}, {case}"
                )
