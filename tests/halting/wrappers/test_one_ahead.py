"""Decisions one step ahead: masses and steps are those of the rule inside, a step later."""

import pytest
import torch
from torch import Tensor

from act import Block, LoopedTransformer, Recurrence
from act.decoding.generate import generate
from act.testing.probes import FixedNoise, decide_alone
from halting import (
    ConfidenceExit,
    ConvergenceExit,
    EarlyExitClassifier,
    ExitGate,
    ExpectedSteps,
    ExpertChoiceRouter,
    FixedSteps,
    GravesACT,
    HaltingRule,
    LookaheadDepth,
    MinSteps,
    OneAhead,
    PonderNet,
    QHalt,
    StepsPlusRemainder,
    StickBreaking,
    TokenChoiceRouter,
    UniversalTransformerACT,
    UsageError,
)

DIM, LIMIT, TOKENS = 4, 6, 40


def drawn(rule: HaltingRule, training: bool = False) -> HaltingRule:
    torch.manual_seed(0)
    for parameter in rule.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return rule.double().train(training)


def path(limit: int = LIMIT) -> tuple[Tensor, Tensor]:
    """States [N+1 A D] and logits [N+1 A V] that tokens pass through, whatever is decided."""
    draw = torch.Generator().manual_seed(1)
    states = torch.randn(LIMIT + 1, TOKENS, DIM, generator=draw, dtype=torch.float64)
    logits = torch.randn(LIMIT + 1, TOKENS, 3, generator=draw, dtype=torch.float64)
    return states[: limit + 1], logits[: limit + 1]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: GravesACT(DIM),
        lambda: PonderNet(DIM),
        lambda: ExitGate(DIM),
        lambda: StickBreaking(DIM, threshold=0.7),
        lambda: ConfidenceExit("max", 0.7),
        lambda: ConvergenceExit("state", 1.2),
        lambda: EarlyExitClassifier(DIM, threshold=0.6),
        lambda: LookaheadDepth(DIM),
        lambda: FixedSteps(2),
        lambda: FixedSteps(),
        lambda: MinSteps(GravesACT(DIM), 3),
    ],
)
@torch.no_grad()
def test_masses_and_steps_are_those_inside_a_step_later(make, training: bool) -> None:
    """p'_1 = 0 and p'_{n+1} = p_n, under a limit of one step less."""
    mass, steps = decide_alone(drawn(make(), training), *path(LIMIT - 1))
    late, later = decide_alone(OneAhead(drawn(make(), training)), *path())
    assert torch.equal(later, steps + 1)
    assert (late[0] == 0).all()
    torch.testing.assert_close(late[1:], mass, rtol=0, atol=1e-12)
    torch.testing.assert_close(late.sum(0), torch.ones(TOKENS).double(), rtol=0, atol=1e-12)
    numbers = torch.arange(1, LIMIT + 1).double()
    torch.testing.assert_close(numbers @ late, numbers[:-1] @ mass + 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("limit", "steps"), [(1, 1), (2, 2)])
def test_a_token_takes_two_steps_or_what_the_limit_allows(limit: int, steps: int) -> None:
    rule = OneAhead(FixedSteps(1))
    mass, taken = decide_alone(rule, *path(limit))
    assert (taken == steps).all() and (mass[steps - 1] == 1).all()
    assert rule.fixed_depth(limit) == steps and rule.fixed_depth(9) == 2


def test_the_decision_reads_no_state_of_the_step_that_it_ends() -> None:
    """By hand: GravesACT with λ = σ(s), so that a large state leaves. The state after step 1 lets
    the first token go after step 2; that after step 2 the second one after step 3."""
    rule = GravesACT(1).double().eval()
    rule.gate.weight.data.fill_(1.0)
    rule.gate.bias.data.zero_()
    states = torch.tensor(
        [[0, 0], [9, -9], [-9, 9], [-9, -9], [-9, -9]], dtype=torch.float64
    ).unsqueeze(-1)
    with torch.no_grad():
        mass, steps = decide_alone(OneAhead(rule), states, torch.zeros(5, 2, 3))
    assert steps.tolist() == [2, 3]
    low = 1 / (1 + torch.tensor(9.0).exp().item())
    assert mass[:, 0].tolist() == pytest.approx([0, 1, 0, 0])
    assert mass[:, 1].tolist() == pytest.approx([0, low, 1 - low, 0])


def test_costs_and_ponder_read_the_decision_where_it_takes_effect() -> None:
    x = torch.randn(2, 5, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    valid = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)
    torch.manual_seed(4)
    block = Block(DIM, 1, injection="concat").double()
    rule = OneAhead(drawn(GravesACT(DIM), True))
    _, trace = Recurrence(block, rule, max_steps=LIMIT)(x, valid)
    assert (trace.steps[valid] >= 2).all() and len(trace.steps[valid].unique()) > 1
    assert (trace.mass[..., 0] == 0).all() and (trace.score[..., 0] == 0).all()
    assert torch.equal(rule.ponder(trace), trace.steps.double())
    last = trace.mass.gather(-1, (trace.steps - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
    cost = StepsPlusRemainder()(trace)
    torch.testing.assert_close(cost[valid], (trace.steps + last)[valid])
    numbers = torch.arange(1, trace.num_steps + 1).double()
    expected = ExpectedSteps()(trace)
    torch.testing.assert_close(expected, trace.mass @ numbers)
    for found in (cost, expected):
        (gradient,) = torch.autograd.grad(found.sum(), rule.rule.gate.weight, retain_graph=True)
        assert (gradient != 0).any()


def test_q_halt_answers_a_step_later_and_looks_ahead_after_that() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, DIM, dtype=torch.float64)
    rule = OneAhead(drawn(QHalt(DIM, explore=0.5), True))
    loop = Recurrence(Block(DIM, 1, injection="concat").double(), rule, max_steps=LIMIT)
    loop.draw = FixedNoise((0, 1, 2))
    _, trace = loop(x)
    answered = trace.mass.argmax(-1) + 1
    assert torch.equal(rule.ponder(trace), answered.double())
    assert torch.equal(trace.steps, (answered + 1).clamp(max=LIMIT)) and (answered >= 2).all()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (ExpertChoiceRouter(DIM, LIMIT), "ranks the tokens"),
        (TokenChoiceRouter(DIM, LIMIT, warmup=1), "next update"),
        (UniversalTransformerACT(DIM), "would come a step late"),
        (MinSteps(UniversalTransformerACT(DIM), 2), "would come a step late"),
    ],
)
def test_what_it_refuses(rule: HaltingRule, words: str) -> None:
    with pytest.raises(UsageError, match=f"OneAhead cannot wrap.*{words}.*--halting.one-ahead"):
        OneAhead(rule)


def test_it_decodes_as_it_reads() -> None:
    torch.manual_seed(0)
    rule = OneAhead(drawn(GravesACT(8)))
    model = LoopedTransformer(11, 8, 2, rule, max_steps=4, causal=True).double().eval()
    prompt = torch.randint(11, (2, 3), generator=torch.Generator().manual_seed(0))
    written = generate(model, prompt, num_tokens=5)
    tokens = written.tokens
    with torch.no_grad():
        whole = model(tokens[:, :-1])
    assert torch.equal(whole.trace.steps, written.steps[:, :-1])
    assert torch.equal(whole.logits.argmax(-1)[:, 2:], tokens[:, 3:])
    assert (whole.trace.steps >= 2).all()
