"""A gate that learns when a hard exit would let a token go: label, cost, and what it refuses."""

import math

import pytest
import torch

from act import LoopedTransformer
from act.accounting.flops import rule_flops
from act.testing.probes import decide_alone
from halting import (
    ConfidenceExit,
    ConvergenceExit,
    DistilledExit,
    HaltingRule,
    LoopTrace,
    TeacherExit,
    UsageError,
)

DIM, LIMIT, TOKENS = 4, 5, 30


def path() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    states = torch.randn(LIMIT + 1, TOKENS, DIM, generator=draw, dtype=torch.float64)
    return states, torch.randn(LIMIT + 1, TOKENS, 3, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "teacher"),
    [
        ({}, ConfidenceExit()),
        ({"measure": "gap", "teacher_threshold": 0.5}, ConfidenceExit("gap", 0.5)),
        ({"measure": "entropy", "teacher_threshold": 0.8}, ConfidenceExit("entropy", 0.8)),
        (
            {"teacher": "convergence", "measure": "kl", "teacher_threshold": 0.5},
            ConvergenceExit("kl", 0.5),
        ),
        (
            {"teacher": "convergence", "measure": "state", "teacher_threshold": 1.0},
            ConvergenceExit("state", 1.0),
        ),
    ],
)
@torch.no_grad()
def test_the_label_is_whether_the_teacher_alone_would_have_left(options, teacher) -> None:
    model = LoopedTransformer(7, DIM, 2, DistilledExit(DIM, **options), max_steps=LIMIT).double()
    tokens = torch.randint(7, (5, 1), generator=torch.Generator().manual_seed(0))
    trace = model.train()(tokens).trace
    assert (trace.steps == LIMIT).all()
    model.use(teacher)
    left = model.eval()(tokens).trace.steps
    label = trace.aux["teacher_left"].bool()
    numbers = torch.arange(1, LIMIT)
    assert torch.equal(label[..., :-1], numbers >= left.unsqueeze(-1))


@torch.no_grad()
def test_in_evaluation_the_gate_alone_decides() -> None:
    torch.manual_seed(0)
    rule = DistilledExit(DIM, bias_init=0.0, threshold=0.6)
    torch.nn.init.normal_(rule.gate.weight)
    states, logits = path()
    rule.double().eval()
    _, steps = decide_alone(rule, states, torch.full_like(logits, torch.nan))
    for token in range(TOKENS):
        wanted = LIMIT
        for n in range(LIMIT, 0, -1):
            state = states[n, token]
            logit = rule.gate.weight[0] @ state / (state.square().mean() + 1e-6).sqrt()
            wanted = n if 1 / (1 + math.exp(-logit.item())) >= 0.6 else wanted
        assert steps[token] == wanted
    assert len(steps.unique()) > 2


def test_the_cost_by_hand() -> None:
    """The last step is no question; a teacher that has left stays away."""
    steps = torch.tensor([[3, 2, 1, 0]])
    ran = torch.arange(3) < steps.unsqueeze(-1)
    logit = torch.tensor([[[0.0, math.log(3), 9.0], [math.log(3), 9.0, 9.0], [9.0] * 3, [9.0] * 3]])
    left = torch.tensor([[[False, True, True], [False, False, True], [True] * 3, [False] * 3]])
    aux = {"leave_logit": logit.requires_grad_(), "teacher_left": left}
    trace = LoopTrace(ran.float(), ran.float(), steps, steps > 0, aux)
    cost = TeacherExit()(trace)[0]
    assert cost.tolist() == pytest.approx(
        [(math.log(2) - math.log(0.75)) / 2, -math.log(0.25), 0.0, 0.0]
    )
    (found,) = torch.autograd.grad(cost.sum(), logit)
    assert found[0, 0].tolist() == pytest.approx([0.25, -0.125, 0.0])
    with pytest.raises(UsageError, match="finds no teacher_left"):
        TeacherExit()(trace._replace(aux={"leave_logit": logit}))


def test_it_never_moves_the_model() -> None:
    model = LoopedTransformer(7, DIM, 2, DistilledExit(DIM), max_steps=3)
    trace = model(torch.randint(7, (2, 4))).trace
    TeacherExit()(trace).sum().backward()
    for name, parameter in model.named_parameters():
        moved = parameter.grad is not None and bool((parameter.grad != 0).any())
        assert moved == ("rule.gate" in name), name


def test_logits_are_read_in_training_alone() -> None:
    """The gate in the teacher's place saves the output head at every step."""
    rule = DistilledExit(DIM)
    model = LoopedTransformer(7, DIM, 2, rule, max_steps=3)
    assert rule.reads_logits
    assert rule_flops(model.train()) > rule_flops(model.eval()) == 2 * DIM
    assert not rule.reads_logits and not DistilledExit(DIM, "convergence").reads_logits


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"teacher": "nobody"}, "no teacher nobody.*confidence or convergence"),
        ({"measure": "kl"}, "no measure kl.*max, gap, entropy"),
        ({"teacher": "convergence", "measure": "gap"}, "no measure gap.*state, entropy, kl"),
        ({"teacher_threshold": 2.0}, "ConfidenceExit cannot leave at max 2.0"),
    ],
)
def test_what_it_refuses(options, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        DistilledExit(DIM, **options)


def test_what_it_says_of_itself() -> None:
    rule: HaltingRule = DistilledExit(DIM)
    assert rule.causal and not rule.spreads_mass and rule.default_cost is TeacherExit
    assert rule.train().fixed_depth(7) == 7 and rule.eval().fixed_depth(7) is None
    assert TeacherExit.unit == "nats" and not TeacherExit.needs_outcomes
