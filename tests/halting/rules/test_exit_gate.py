"""The exit gate against plain loops over its hazards, its two stages, and its first cost."""

import math

import pytest
import torch
from torch import Tensor, nn

from act import Block, LoopedTransformer, Recurrence
from halting import (
    DeepSupervision,
    EveryStep,
    LoopTrace,
    PerSequence,
    Readout,
    StepView,
    UsageError,
)
from halting.costs.gate_target import GateTarget
from halting.costs.uniform_prior import UniformPrior
from halting.rules.exit_gate import ExitGate
from training.objectives import CrossEntropy
from training.tasks.task import IGNORE, Batch

DIM, LIMIT = 6, 5
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)


def loop(bias: float = -1.0, q: float = 0.5) -> Recurrence:
    rule = ExitGate(DIM, bias, q)
    nn.init.normal_(rule.gate.weight, std=0.4)
    return Recurrence(Block(DIM, 2, rotary=False), rule, max_steps=LIMIT).double()


def view(state: Tensor, remaining: float = 1.0) -> StepView:
    count = len(state)
    return StepView(
        step=torch.full((count,), 2),
        max_steps=9,
        entering=state,
        state=state,
        remaining=torch.full((count,), remaining),
        row=torch.zeros(count, dtype=torch.int64),
        position=torch.arange(count),
        logits=lambda: state,
        uniform=lambda: torch.zeros(count),
    )


def test_the_gate_reads_the_normed_state() -> None:
    rule, state = ExitGate(4, bias_init=0.3), torch.randn(3, 4)
    nn.init.normal_(rule.gate.weight)
    decision, _ = rule.decide(view(state, 0.4), None)
    for token, numbers in enumerate(state.tolist()):
        size = math.sqrt(sum(x * x for x in numbers) / 4 + 1e-6)
        logit = (
            sum(w * x / size for w, x in zip(rule.gate.weight[0].tolist(), numbers, strict=True))
            + 0.3
        )
        assert decision.aux["exit_logit"][token].item() == pytest.approx(logit, abs=1e-5)
        hazard = 1 / (1 + math.exp(-logit))
        assert decision.score[token].item() == pytest.approx(hazard, abs=1e-6)
        assert decision.mass[token].item() == pytest.approx(0.4 * hazard, abs=1e-6)
    larger, _ = rule.decide(view(100 * state, 0.4), None)
    torch.testing.assert_close(larger.score, decision.score, atol=1e-5, rtol=0)


def test_a_gate_behind_a_norm_with_weights_is_one_of_these() -> None:
    """What the docstring says of the norm: its weights are absorbed by the gate's."""
    scale, state = torch.rand(4) + 0.5, torch.randn(3, 4)
    norm, rule = nn.RMSNorm(4, eps=1e-6), ExitGate(4)
    nn.init.normal_(rule.gate.weight)
    norm.weight.data.copy_(scale)
    theirs = norm(state) @ rule.gate.weight[0] + rule.gate.bias
    rule.gate.weight.data *= scale
    torch.testing.assert_close(rule.decide(view(state), None)[0].aux["exit_logit"], theirs)


def test_in_training_nobody_leaves_before_the_limit_and_the_last_step_takes_the_rest() -> None:
    _, trace = loop(bias=4.0)(torch.randn(2, 4, DIM, dtype=torch.float64), VALID)
    assert (trace.steps[VALID] == LIMIT).all()
    for token in VALID.nonzero().tolist():
        survival = 1.0
        for n, hazard in enumerate(trace.score[tuple(token)].tolist(), 1):
            expected = survival if n == LIMIT else survival * hazard
            assert trace.mass[tuple(token)][n - 1].item() == pytest.approx(expected, abs=1e-12)
            survival -= expected
    assert (
        ExitGate(DIM).fixed_depth(LIMIT) == LIMIT
        and ExitGate(DIM).eval().fixed_depth(LIMIT) is None
    )


def test_evaluation_leaves_at_the_quantile_of_what_training_spends() -> None:
    """One token a sequence, so that nobody's exit changes what another one reads."""
    running, x = loop(bias=-0.8), torch.randn(12, 1, DIM, dtype=torch.float64)
    rule = running.rule
    assert isinstance(rule, ExitGate)
    with torch.no_grad():
        _, whole = running(x)
        seen = set()
        for q in (0.2, 0.5, 0.8, 1.0):
            rule.q = q
            meant = rule.train().ponder(whole)
            _, trace = running.eval()(x)
            for token, mass in enumerate(whole.mass[:, 0].tolist()):
                reached = next(n for n in range(1, LIMIT + 1) if sum(mass[:n]) >= q or n == LIMIT)
                assert int(trace.steps[token, 0]) == reached, (q, mass)
                seen.add(reached)
            assert torch.equal(meant, trace.steps.double()), (
                "what training calls ponder is where evaluation leaves"
            )
            assert torch.equal(rule.ponder(trace), trace.steps.double())
    assert (trace.steps == LIMIT).all() and len(seen) > 2


def test_ponder_is_0_on_padding_and_no_more_than_the_steps() -> None:
    running = loop(q=0.999999)
    _, trace = running(torch.randn(2, 4, DIM, dtype=torch.float64), VALID)
    ponder = running.rule.ponder(trace)
    assert (ponder[~VALID] == 0).all() and (ponder[VALID] == LIMIT).all()


def entropy(mass: list[float]) -> float:
    return -sum(p * math.log(p) for p in mass if p > 0)


def test_the_uniform_prior_is_log_n_less_the_entropy() -> None:
    """Against the divergence from 1/N, written out; and 0 only where every step is as likely as any
    other."""
    masses = [torch.randn(n, dtype=torch.float64).softmax(0).tolist() for n in (1, 2, 5, 5)]
    masses += [[0.2] * 5, [0.0, 0.0, 1.0], [0.0, 0.5, 0.5], []]
    laid_out = torch.tensor(
        [[[*mass, *[0.0] * (5 - len(mass))] for mass in masses]], dtype=torch.float64
    )
    steps = torch.tensor([[len(mass) for mass in masses]])
    cost = UniformPrior()(LoopTrace(laid_out, laid_out, steps, steps > 0, {}))[0]
    for found, mass in zip(cost.tolist(), masses, strict=True):
        divergence = sum(p * math.log(p * len(mass)) for p in mass if p > 0)
        assert found == pytest.approx(divergence, abs=1e-12) and found > -1e-12
        assert found == pytest.approx(math.log(len(mass) or 1) - entropy(mass), abs=1e-12)
    assert cost[4].abs() < 1e-12 and cost[5].item() == pytest.approx(math.log(3)) and cost[-1] == 0


def test_its_gradient_is_that_of_the_entropy_and_it_trains_the_gate() -> None:
    """The gradient of the cost alone on the gate, by finite differences and as that of −H."""
    for wrap in (lambda rule: rule, PerSequence):
        running, x = loop(), torch.randn(2, 4, DIM, dtype=torch.float64)
        running.rule = wrap(running.rule)
        wanted = list(running.rule.parameters())

        def total(running: Recurrence = running, x: Tensor = x) -> Tensor:
            return UniformPrior()(running(x, VALID)[1]).sum()

        found = torch.autograd.grad(total(), wanted)
        mass = running(x, VALID)[1].mass[VALID]
        of_entropy = torch.autograd.grad((mass * mass.log()).sum(), wanted)
        small = 1e-6
        for parameter, gradient, same in zip(wanted, found, of_entropy, strict=True):
            assert (gradient != 0).any() and torch.allclose(gradient, same)
            flat, numbers = parameter.data.view(-1), gradient.flatten()
            for place in range(len(flat)):
                flat[place] += small
                above = total().item()
                flat[place] -= 2 * small
                below = total().item()
                flat[place] += small
                expected = (above - below) / (2 * small)
                assert numbers[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_a_saturated_gate_gives_finite_costs_and_gradients() -> None:
    running = loop(bias=60.0).float()
    _, trace = running(torch.randn(2, 4, DIM), VALID)
    cost = UniformPrior()(trace)
    assert (trace.mass[VALID][:, 1:] == 0).all() and cost[VALID].allclose(torch.tensor(LIMIT).log())
    assert all(
        g.isfinite().all() for g in torch.autograd.grad(cost.sum(), list(running.rule.parameters()))
    )


def small_model(readout: Readout | None = None) -> LoopedTransformer:
    rule = ExitGate(8, -1.0)
    nn.init.normal_(rule.gate.weight, std=0.3)
    return LoopedTransformer(5, 8, 2, rule, readout, max_steps=4).double()


def batch() -> Batch:
    targets = torch.tensor([[0, 1, 2, 3], [4, 0, IGNORE, IGNORE]])
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]], dtype=torch.bool)
    return Batch(torch.randint(5, (2, 4)), targets, valid, torch.full((2, 4), torch.nan))


def test_stage_1_mixes_losses_not_logits() -> None:
    """A public model file trains on the loss of the mixed logits: another number, and another
    gradient on the gate."""
    model, data = small_model(), batch()
    output = model(data.tokens, data.valid)
    assert output.step_logits is not None
    logits = output.step_logits.unpack(output.step_logits.values, 2, 4, 4)
    total, mixed = 0.0, torch.zeros((), dtype=torch.float64)
    for row, position in data.has_target.nonzero().tolist():
        target, mass = data.targets[row, position], output.trace.mass[row, position]
        for n in range(4):
            total += mass[n].item() * -logits[row, position, n].log_softmax(-1)[target].item()
        mixed = mixed - (mass.unsqueeze(-1) * logits[row, position]).sum(0).log_softmax(-1)[target]
    task = CrossEntropy()(output, data, None).task
    assert task.item() == pytest.approx(total)
    assert mixed.item() < total - 1e-3, "the loss of a mean is below the mean loss (Jensen)"
    gate = list(model.recurrence.rule.parameters())
    ours, theirs = (torch.autograd.grad(loss, gate, retain_graph=True) for loss in (task, mixed))
    assert not torch.allclose(ours[0], theirs[0], rtol=0.05)


@pytest.mark.parametrize(
    "readout", [DeepSupervision(), EveryStep()], ids=lambda r: type(r).__name__
)
def test_stage_2_moves_the_gate_by_its_target_alone(readout: Readout) -> None:
    """With the model frozen. Under EveryStep the task's loss would move the gate as well."""
    model, data = small_model(readout), batch()
    model.requires_grad_(False)
    gate = list(model.recurrence.rule.requires_grad_().parameters())
    terms = CrossEntropy()(model(data.tokens, data.valid), data, GateTarget())
    cost_alone = torch.autograd.grad(terms.cost, gate, retain_graph=True)
    (terms.task + GateTarget.default_penalty * terms.cost).backward()
    frozen = [p for p in model.parameters() if not any(p is own for own in gate)]
    assert len(frozen) > 5 and all(p.grad is None for p in frozen)
    assert (cost_alone[0] != 0).any()
    same = all(
        torch.allclose(p.grad, g)
        for p, g in zip(gate, cost_alone, strict=True)
        if p.grad is not None
    )
    assert same is isinstance(readout, DeepSupervision)


@pytest.mark.parametrize("q", [0.0, 1.5])
def test_a_q_that_is_no_probability_is_refused(q: float) -> None:
    with pytest.raises(UsageError, match=f"q is {q}"):
        ExitGate(4, q=q)
    rule = ExitGate(4)
    with pytest.raises(UsageError, match=f"q is {q}"):
        rule.q = q
    assert rule.q == 0.5


def test_what_they_say_of_themselves() -> None:
    assert ExitGate.causal and ExitGate.spreads_mass and not ExitGate.reads_logits
    assert ExitGate.default_readout is EveryStep and ExitGate.default_cost is UniformPrior
    assert UniformPrior.unit == "nats" and UniformPrior.default_penalty == 0.05
    assert UniformPrior.needs_spread_mass and not UniformPrior.needs_outcomes
