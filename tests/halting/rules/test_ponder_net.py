"""PonderNet against plain loops over its hazards, its two exits, and what it is trained on."""

import pytest
import torch
from torch import Tensor, nn

from act import Block, LoopedTransformer, Recurrence
from halting import DeepSupervision, EveryStep, LoopTrace, MinSteps, Readout, StepView, UsageError
from halting.costs.geometric_prior import GeometricPrior
from halting.rules.ponder_net import PonderNet
from training.objectives import CrossEntropy
from training.tasks.task import IGNORE, Batch

DIM = 6
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)


def view(hazards: list[float], remaining: list[float], uniform: float = 0.5) -> StepView:
    """A step at which `one_number_gate` says these hazards."""
    count = len(hazards)
    state = torch.logit(torch.tensor(hazards)).unsqueeze(-1)
    return StepView(
        step=torch.full((count,), 2),
        max_steps=9,
        entering=state,
        state=state,
        remaining=torch.tensor(remaining),
        row=torch.zeros(count, dtype=torch.int64),
        position=torch.arange(count),
        logits=lambda: state,
        uniform=lambda: torch.full((count,), uniform),
    )


def one_number_gate(epsilon: float = 0.05, sample: bool = False) -> PonderNet:
    rule = PonderNet(1, bias_init=0.0, epsilon=epsilon, sample=sample)
    nn.init.ones_(rule.gate.weight)
    return rule


def loop(
    max_steps: int = 6, bias: float = -0.7, epsilon: float = 0.05, sample: bool = False
) -> Recurrence:
    rule = PonderNet(DIM, bias, epsilon, sample=sample)
    nn.init.normal_(rule.gate.weight, std=0.4)
    return Recurrence(Block(DIM, 2, rotary=False), rule, max_steps=max_steps).double()


def exit_distribution(hazards: list[float]) -> list[float]:
    """p_1 .. p_N of a token that is cut after the last of these hazards."""
    survival, mass = 1.0, []
    for hazard in hazards[:-1]:
        mass.append(survival * hazard)
        survival *= 1.0 - hazard
    return [*mass, survival]


def test_it_spends_what_is_left_times_the_hazard() -> None:
    decision, memory = one_number_gate().decide(view([0.3, 0.6, 0.5], [1.0, 0.5, 0.08]), None)
    torch.testing.assert_close(decision.mass, torch.tensor([0.3, 0.3, 0.04]))
    torch.testing.assert_close(decision.score, torch.tensor([0.3, 0.6, 0.5]))
    assert memory is None


def test_in_training_it_leaves_once_epsilon_or_less_is_left() -> None:
    seen = view([0.5, 0.5, 0.97, 0.94], [0.11, 0.09, 1.0, 1.0])
    assert one_number_gate().decide(seen, None)[0].halt.tolist() == [False, True, True, False]
    assert one_number_gate(epsilon=0.1).decide(seen, None)[0].halt.tolist() == [
        True,
        True,
        True,
        True,
    ]


def test_in_evaluation_it_leaves_once_q_is_behind_it() -> None:
    rule, seen = one_number_gate().eval(), view([0.5, 0.5, 0.6, 0.4], [0.9, 1.0, 1.0, 1.0])
    assert rule.decide(seen, None)[0].halt.tolist() == [True, True, True, False]
    rule.q = 0.58
    assert rule.decide(seen, None)[0].halt.tolist() == [False, False, True, False]
    assert rule.train().decide(seen, None)[0].halt.tolist() == [False] * 4, (
        "q has no say in training"
    )


def test_sampled_it_leaves_with_the_chance_of_its_hazard() -> None:
    rule, hazards = one_number_gate(sample=True).eval(), [0.3, 0.5, 0.7]
    assert rule.decide(view(hazards, [1.0] * 3, uniform=0.5), None)[0].halt.tolist() == [
        False,
        False,
        True,
    ]
    assert rule.decide(view(hazards, [1.0] * 3, uniform=0.0), None)[0].halt.tolist() == [True] * 3
    assert (
        rule.train().decide(view(hazards, [1.0] * 3, uniform=0.0), None)[0].halt.tolist()
        == [False] * 3
    )


def test_the_mass_is_the_exit_distribution_with_the_remainder_once() -> None:
    """Public ports multiply the last step's mass by the survival a second time."""
    _, trace = loop()(torch.randn(2, 4, DIM, dtype=torch.float64), VALID)
    assert len(trace.steps[VALID].unique()) > 1
    for token in VALID.nonzero().tolist():
        steps = int(trace.steps[tuple(token)])
        expected = exit_distribution(trace.score[tuple(token)][:steps].tolist())
        assert trace.mass[tuple(token)][:steps].tolist() == pytest.approx(expected, abs=1e-12)
        assert sum(expected) == pytest.approx(1.0), (
            "so the reference itself gives the remainder once"
        )
        survival = [1 - sum(expected[:n]) for n in range(1, steps)]
        assert all(left > 0.05 for left in survival), (
            "it left at the first step that leaves ε or less"
        )


def identical_tokens(count: int) -> Tensor:
    return torch.randn(1, 1, DIM, dtype=torch.float64).expand(count, 1, DIM)


def test_sampled_exits_follow_the_exit_distribution() -> None:
    """A test of goodness of fit: χ² of 4000 draws, whose 0.1 % point is 20.5 at 5 degrees of
    freedom."""
    count, running = 4000, loop(bias=-1.2, epsilon=0.0, sample=True)
    x = identical_tokens(count)
    with torch.no_grad():
        expected = running(x[:1])[1].mass[0, 0]
        _, drawn = running.eval()(x)
    assert len(expected) == 6 and expected.min() > 0.01
    seen = torch.bincount(drawn.steps.flatten(), minlength=7)[1:].double()
    assert float(((seen - count * expected) ** 2 / (count * expected)).sum()) < 20.5
    steps = torch.arange(1, 7, dtype=torch.float64)
    mean, deviation = (
        float((steps * expected).sum()),
        float((steps.square() * expected).sum().sqrt()),
    )
    ponder = running.rule.ponder(drawn)
    assert abs(float(ponder.mean()) - mean) < 4 * deviation / count**0.5, (
        "the mean draw is the mean of p"
    )
    rule = running.rule
    assert isinstance(rule, PonderNet)
    rule.sample = False
    with torch.no_grad():
        assert len(running(x)[1].steps.unique()) == 1, (
            "and without drawing, equal tokens leave together"
        )


def test_evaluation_leaves_at_the_quantile_of_what_training_spends() -> None:
    """One token a sequence, so that nobody's exit changes what another one reads."""
    running, x = (
        loop(max_steps=9, bias=-1.5, epsilon=0.0),
        torch.randn(12, 1, DIM, dtype=torch.float64),
    )
    rule = running.rule
    assert isinstance(rule, PonderNet)
    with torch.no_grad():
        _, whole = running(x)
        running.eval()
        shallower = torch.zeros(12, 1)
        for q in (0.2, 0.5, 0.8, 0.99):
            rule.q = q
            _, trace = running(x)
            for token, mass in enumerate(whole.mass[:, 0].tolist()):
                reached = next(n for n in range(1, 10) if sum(mass[:n]) >= q or n == 9)
                assert int(trace.steps[token, 0]) == reached, (q, mass)
            assert torch.equal(rule.ponder(trace), trace.steps.double())
            assert (trace.steps >= shallower).all()
            shallower = trace.steps
        rule.q = 1.0
        assert (running(x)[1].steps == 9).all() and (whole.steps == 9).all()


def test_ponder_is_the_mean_exit_step_in_training_and_the_exit_in_evaluation() -> None:
    running, x = loop(bias=-1.5), torch.randn(2, 4, DIM, dtype=torch.float64)
    _, trace = running(x, VALID)
    ponder = running.rule.ponder(trace)
    for token in VALID.nonzero().tolist():
        mean = sum(n * p for n, p in enumerate(trace.mass[tuple(token)].tolist(), 1))
        assert ponder[tuple(token)].item() == pytest.approx(mean)
    assert (ponder[~VALID] == 0).all() and (ponder[VALID] < trace.steps[VALID]).all()
    with torch.no_grad():
        _, cut = running.eval()(x, VALID)
    assert torch.equal(running.rule.ponder(cut), cut.steps.double())
    assert (cut.expected_steps[VALID] < cut.steps[VALID]).any(), (
        "Σ n·p_n of a trace that was cut is too low"
    )


def small_model(rule: PonderNet, readout: Readout | None = None) -> LoopedTransformer:
    nn.init.normal_(rule.gate.weight, std=0.3)
    return LoopedTransformer(5, 8, 2, rule, readout, max_steps=5).double()


def batch_of(tokens: Tensor, targets: Tensor) -> Batch:
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]], dtype=torch.bool)
    return Batch(tokens, targets, valid, torch.full(tokens.shape, torch.nan))


def test_each_token_s_own_losses_are_weighed_by_its_own_mass() -> None:
    """A cross entropy averaged to a scalar before it meets p_n, as in public ports, is another
    number."""
    model = small_model(PonderNet(8, -1.0))
    batch = batch_of(torch.randint(5, (2, 4)), torch.tensor([[0, 1, 2, 3], [4, 0, IGNORE, IGNORE]]))
    output = model(batch.tokens, batch.valid)
    assert output.step_logits is not None
    logits = output.step_logits.unpack(output.step_logits.values, 2, 4, output.trace.num_steps)
    total, by_step = 0.0, [0.0] * output.trace.num_steps
    asked = batch.has_target.nonzero().tolist()
    for row, position in asked:
        for n in range(int(output.trace.steps[row, position])):
            loss = -logits[row, position, n].log_softmax(-1)[batch.targets[row, position]].item()
            total += output.trace.mass[row, position, n].item() * loss
            by_step[n] += loss
    task = CrossEntropy()(output, batch, None).task
    assert task.item() == pytest.approx(total)
    mean_mass = [
        output.trace.mass[batch.has_target][:, n].mean().item()
        for n in range(output.trace.num_steps)
    ]
    assert abs(sum(p * loss for p, loss in zip(mean_mass, by_step, strict=True)) - total) > 1e-3


def test_the_task_teaches_the_gate_which_steps_are_good() -> None:
    """∂/∂p_n of Σ p_n·L_n is L_n: through the mass under EveryStep, not at all under
    DeepSupervision."""
    batch = batch_of(torch.randint(5, (2, 4)), torch.randint(5, (2, 4)))
    for readout, reached in ((EveryStep(), True), (DeepSupervision(), False)):
        rule = PonderNet(8, -1.0)
        model = small_model(rule, readout)
        task = CrossEntropy()(model(batch.tokens, batch.valid), batch, None).task
        (found,) = torch.autograd.grad(task, [rule.gate.weight])
        assert bool((found != 0).any()) is reached


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_prior_s_gradient_on_the_gate_is_that_of_finite_differences(wrapped: bool) -> None:
    running, x, cost = loop(), torch.randn(2, 4, DIM, dtype=torch.float64), GeometricPrior(3.0)
    if wrapped:
        running.rule = MinSteps(running.rule, 2)

    def total() -> tuple[Tensor, LoopTrace]:
        _, trace = running(x, VALID)
        return cost(trace).sum(), trace

    value, trace = total()
    assert len(trace.steps[VALID].unique()) > 1 and (not wrapped or (trace.mass[..., 0] == 0).all())
    wanted = list(running.rule.parameters())
    small = 1e-6
    for parameter, gradient in zip(wanted, torch.autograd.grad(value, wanted), strict=True):
        assert (gradient != 0).any()
        flat, numbers = parameter.data.view(-1), gradient.flatten()
        for place in range(len(flat)):
            differences = []
            for move in (small, -2 * small):
                flat[place] += move
                moved, then = total()
                assert torch.equal(then.steps, trace.steps), (
                    "the cost jumps where the steps do: no derivative there"
                )
                differences.append(moved.item())
            flat[place] += small
            expected = (differences[0] - differences[1]) / (2 * small)
            assert numbers[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("epsilon", [-0.1, 1.0])
def test_an_epsilon_that_cannot_work_is_refused(epsilon: float) -> None:
    with pytest.raises(UsageError, match=f"epsilon is {epsilon}"):
        PonderNet(4, epsilon=epsilon)


@pytest.mark.parametrize("q", [0.0, -0.5, 1.2, float("nan")])
def test_a_q_that_is_no_probability_is_refused(q: float) -> None:
    with pytest.raises(UsageError, match=f"q is {q}"):
        PonderNet(4, q=q)
    rule = PonderNet(4)
    with pytest.raises(UsageError, match=f"q is {q}"):
        rule.q = q
    assert rule.q == 0.5


def test_what_it_says_of_itself() -> None:
    assert PonderNet.causal and PonderNet.spreads_mass and not PonderNet.reads_logits
    assert PonderNet.default_readout is EveryStep and PonderNet.default_cost is GeometricPrior
    decision, _ = PonderNet(1).decide(view([0.1, 0.9], [1.0, 1.0]), None)
    torch.testing.assert_close(decision.mass, torch.full((2,), 0.182425524))
