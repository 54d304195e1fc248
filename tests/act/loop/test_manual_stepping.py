"""One step alone: a loop written by hand is `forward`, bit for bit, gradients too."""

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from act import Backprop, Block, Checkpointed, LoopState, PlainBlock, Recurrence, Truncated
from act.testing import FixedNoise
from act.testing.probes import differentiable, gradients_of
from halting import (
    ConfidenceExit,
    EveryStep,
    ExpertChoiceRouter,
    FixedSteps,
    GravesACT,
    HaltingRule,
    LoopTrace,
    PonderNet,
    UsageError,
)

DIM, LIMIT = 8, 5
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]], dtype=torch.bool)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "manual_stepping.md"
RULES: dict[str, Callable[[], HaltingRule]] = {
    "graves": lambda: GravesACT(DIM, bias_init=-0.5),
    "ponder_net": lambda: PonderNet(DIM),
    "expert_choice": lambda: ExpertChoiceRouter(DIM, LIMIT, warmup=0),
    "confidence": ConfidenceExit,
}


def loop_of(rule: HaltingRule, causal: bool = False, **options: object) -> Recurrence:
    torch.manual_seed(5)
    block = Block(
        DIM,
        2,
        num_kv_heads=1,
        num_layers=2,
        causal=causal,
        injection="concat",
        step_signal="sinusoidal",
    )
    for parameter in rule.parameters():
        nn.init.normal_(parameter, std=0.7)
    loop = Recurrence(block, rule, max_steps=LIMIT, **options).double()  # pyright: ignore[reportArgumentType]
    loop.draw = FixedNoise()
    head = torch.randn(11, DIM, dtype=torch.float64)
    loop.head = lambda state: state @ head.T
    return loop


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(3, 4, DIM, dtype=torch.float64, generator=generator).requires_grad_()


def by_hand(
    loop: Recurrence, x: Tensor, valid: Tensor | None, **options: object
) -> tuple[Tensor, LoopTrace]:
    state = loop.begin(x, valid, **options)  # pyright: ignore[reportArgumentType]
    while not state.done:
        state = loop.step(state)
    return loop.finish(state)


def assert_identical(loop: Recurrence, valid: Tensor | None, trains: bool) -> LoopTrace:
    outcomes = []
    for run in (loop, lambda *given, **options: by_hand(loop, *given, **options)):
        x = inputs()
        with torch.set_grad_enabled(trains):
            output, trace = run(x, valid, record_lens=True)
        tensors = {**differentiable(output, trace), "steps": trace.steps, "valid": trace.valid}
        if trains:
            wanted = {"input": x, **dict(loop.named_parameters())}
            found = gradients_of(differentiable(output, trace), wanted)
            tensors |= {f"gradient of {name}": value for name, value in found.items()}
        outcomes.append((tensors, trace))
    (theirs, trace), (mine, _) = outcomes
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    return trace


@pytest.mark.parametrize("backprop", [Backprop(), Checkpointed(), Truncated(2)], ids=str)
@pytest.mark.parametrize("path", ["packed", "dense"])
@pytest.mark.parametrize("rule", RULES)
def test_a_loop_by_hand_is_forward(rule: str, path: str, backprop: Backprop) -> None:
    made = RULES[rule]()
    if backprop.cuts and made.gain_reads_state:
        pytest.skip("refused together")
    for causal in (False, True):
        for valid in (None, VALID):
            if causal and not made.causal:
                continue
            loop = loop_of(copy.deepcopy(made), causal, path=path, backprop=backprop)
            trace = assert_identical(loop, valid, trains=True)
            assert trace.num_steps > 1
            assert_identical(loop.eval(), valid, trains=False)


def test_tokens_leave_one_by_one_and_the_state_tells_who_is_left() -> None:
    loop = loop_of(RULES["graves"]())
    state = loop.begin(inputs(), VALID)
    seen = [state]
    while not state.done:
        assert state.active == len(state.state) == len(state.remaining)
        state = loop.step(state)
        seen.append(state)
    _, trace = loop.finish(state)
    assert [each.num_steps for each in seen] == list(range(len(seen)))
    left = [int((trace.steps > n).sum()) for n in range(len(seen))]
    assert [each.active for each in seen] == left and len(set(left)) > 2
    assert seen[1].slots.step.unique().tolist() == [2]


def test_a_block_that_sees_every_position_and_a_readout_of_every_step() -> None:
    torch.manual_seed(0)
    block = PlainBlock(nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh()), positionwise=True)
    rule = GravesACT(DIM, bias_init=-0.5)
    nn.init.normal_(rule.gate.weight)
    assert_identical(Recurrence(block, rule, max_steps=LIMIT).double(), VALID, trains=True)
    assert_identical(Recurrence(block, rule, EveryStep(), max_steps=LIMIT).double(), None, True)


def test_a_run_can_be_left_in_the_middle() -> None:
    """As `keep_going` leaves it: who is still active puts out 0 and keeps the rest of its mass."""
    loop = loop_of(RULES["graves"]())
    state = loop.begin(inputs())
    while state.active == 12:
        state = loop.step(state)
    assert 0 < state.active < 12
    output, trace = loop.finish(state)
    whole, whole_trace = loop(inputs())
    gone = whole_trace.steps <= state.num_steps
    assert torch.equal(output[gone], whole[gone]) and (output[~gone] == 0).all()
    assert torch.equal(trace.mass, whole_trace.mass[..., : state.num_steps])
    assert torch.allclose(1 - trace.mass.sum(-1)[~gone], state.remaining)


def test_another_limit_and_a_batch_without_a_token() -> None:
    loop = loop_of(FixedSteps())
    state = loop.begin(inputs(), max_steps=2)
    assert not state.done and not state.at_limit
    state = loop.step(loop.step(state))
    assert state.done and state.at_limit and state.active == 0
    nobody = loop.begin(inputs(), torch.zeros(3, 4, dtype=torch.bool))
    assert not nobody.done, "a run takes one step, so that its trace has one"
    nobody = loop.step(nobody)
    assert nobody.done and not nobody.at_limit
    output, trace = loop.finish(nobody)
    assert (output == 0).all() and trace.num_steps == 1


def finish_too_early(loop: Recurrence, state: LoopState) -> None:
    loop.finish(state)


def step_beyond(loop: Recurrence, state: LoopState) -> None:
    for _ in range(LIMIT + 1):
        state = loop.step(state)


def step_twice(loop: Recurrence, state: LoopState) -> None:
    loop.step(state)
    loop.step(state)


def finish_an_old_one(loop: Recurrence, state: LoopState) -> None:
    state = loop.step(state)
    loop.step(state)
    loop.finish(state)


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (finish_too_early, "has taken no step"),
        (step_beyond, f"has taken its {LIMIT} steps"),
        (step_twice, "A step was taken already"),
        (finish_an_old_one, "the run went on from it"),
    ],
)
def test_what_is_refused(misuse: Callable[[Recurrence, LoopState], None], message: str) -> None:
    loop = loop_of(FixedSteps())
    with pytest.raises(UsageError, match=message):
        misuse(loop, loop.begin(inputs()))


def test_the_page_runs() -> None:
    """Every example of docs/manual_stepping.md, one after the other."""
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(examples) >= 3
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    by_hand, by_call = names["output"], names["same_output"]
    assert isinstance(by_hand, Tensor) and isinstance(by_call, Tensor)
    assert torch.equal(by_hand, by_call)
