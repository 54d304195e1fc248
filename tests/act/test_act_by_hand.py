"""The numbers of docs/act_by_hand.md, through the loop and through Graves' equations on lists."""

import pytest
import torch
from torch import Tensor, nn

from act import PlainBlock, Recurrence
from act.testing import naive
from halting import ExpectedSteps, GravesACT, StepsPlusRemainder

EPSILON, LIMIT = 0.01, 4
HAZARDS = [[0.10, 0.30, 0.45, 0.40], [0.995, 0.5, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1]]
STATES = [
    [[1, 0], [0, 2], [4, 4], [-2, 6]],
    [[5, -1], [0, 0], [0, 0], [0, 0]],
    [[1, 1], [2, 2], [3, 3], [4, 4]],
]
STEPS = [4, 1, 4]
MASS = [[0.10, 0.30, 0.45, 0.15], [1, 0, 0, 0], [0.1, 0.1, 0.1, 0.7]]
OUTPUT = [[1.6, 3.3], [5, -1], [3.4, 3.4]]
REMAINDER = [0.15, 1.0, 0.7]
COST = [4.15, 2.0, 4.7]
EXPECTED_STEPS = [2.65, 1.0, 0.1 + 0.2 + 0.3 + 2.8]


class Script(nn.Module):
    """Gives each token the states of its script: (place in the script, the state's two numbers, the
    gate's logit)."""

    def __init__(self) -> None:
        super().__init__()
        logits = torch.logit(torch.tensor(HAZARDS, dtype=torch.float64)).flatten()
        self.logits, self.states = (
            nn.Parameter(logits),
            torch.tensor(STATES, dtype=torch.float64).flatten(0, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        now = x[..., 0].round().long().clamp(max=len(self.states) - 1)
        return torch.cat((x[..., :1] + 1, self.states[now], self.logits[now].unsqueeze(-1)), dim=-1)


def scripted_loop() -> tuple[Recurrence, Script, Tensor]:
    """A loop that reads its hazards from the script, and what it starts from: the first line of
    each token's script."""
    script, rule = Script(), GravesACT(4, bias_init=0.0, epsilon=EPSILON).double()
    with torch.no_grad():
        rule.gate.weight[0, 3] = 1.0
    x = torch.zeros(1, 3, 4, dtype=torch.float64)
    x[0, :, 0] = torch.arange(3) * LIMIT
    return Recurrence(PlainBlock(script, positionwise=True), rule, max_steps=LIMIT), script, x


def test_steps_mass_output_and_cost() -> None:
    loop, _, x = scripted_loop()
    output, trace = loop(x)
    assert trace.steps.tolist() == [STEPS]
    assert trace.mass[0].detach().numpy() == pytest.approx(torch.tensor(MASS).numpy(), abs=1e-7)
    assert trace.remainder[0].tolist() == pytest.approx(REMAINDER)
    assert StepsPlusRemainder()(trace)[0].tolist() == pytest.approx(COST)
    assert ExpectedSteps()(trace)[0].tolist() == pytest.approx(EXPECTED_STEPS)
    for token, expected in enumerate(OUTPUT):
        assert output[0, token, 1:3].tolist() == pytest.approx(expected)
    for token, hazards in enumerate(HAZARDS):
        assert trace.score[0, token, : STEPS[token]].tolist() == pytest.approx(
            hazards[: STEPS[token]]
        )


def test_had_the_first_token_stopped_at_step_2() -> None:
    loop, _, x = scripted_loop()
    _, trace = loop(x, record_lens=True)
    assert trace.lens is not None
    at = (trace.lens.index == 0) & (trace.lens.step == 1)
    assert trace.lens.values[at][0, 1:3].tolist() == pytest.approx([0.1, 1.8])


@pytest.mark.parametrize("token", range(3))
def test_graves_equations_on_lists_say_the_same(token: int) -> None:
    said = naive.graves_act(
        HAZARDS[token], [[float(v) for v in state] for state in STATES[token]], EPSILON
    )
    assert said.steps == STEPS[token]
    assert said.remainder == pytest.approx(REMAINDER[token])
    assert said.mass == pytest.approx(MASS[token][: said.steps])
    assert said.output == pytest.approx(OUTPUT[token])
    assert said.cost == pytest.approx(COST[token])


def test_the_cost_pulls_at_earlier_hazards_only() -> None:
    loop, script, x = scripted_loop()
    _, trace = loop(x)
    (found,) = torch.autograd.grad(StepsPlusRemainder()(trace).sum(), script.logits)
    expected = [-0.09, -0.21, -0.2475, 0, 0, 0, 0, 0, -0.09, -0.09, -0.09, 0]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_expected_steps_pull_by_the_distance_to_the_last() -> None:
    loop, script, x = scripted_loop()
    _, trace = loop(x)
    (found,) = torch.autograd.grad(ExpectedSteps()(trace)[0, 0], script.logits)
    expected = [-3 * 0.09, -2 * 0.21, -0.2475, 0] + [0.0] * 8
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_the_output_moves_from_the_last_state_to_the_step_that_gets_more() -> None:
    loop, script, x = scripted_loop()
    output, _ = loop(x)
    slope = [hazard * (1 - hazard) for hazard in HAZARDS[0]]
    for number in range(2):
        (found,) = torch.autograd.grad(output[0, 0, 1 + number], script.logits, retain_graph=True)
        moves = [
            (state[number] - STATES[0][-1][number]) * s
            for state, s in zip(STATES[0], slope, strict=True)
        ]
        assert found[:LIMIT].tolist() == pytest.approx(moves, abs=1e-12)
