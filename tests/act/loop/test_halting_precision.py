"""Law 5 inside the loop, in every precision that a run may have: nothing is computed in less than
float32, and given the same states every token leaves where it would in float64."""

from contextlib import nullcontext

import pytest
import torch

from act.models.looped_transformer import LoopedTransformer
from benchmarks.precision.halting_replay import Watched, moved
from halting import (
    CorrectnessHalt,
    ExitGate,
    GravesACT,
    HaltingRule,
    PonderNet,
    QHalt,
    StickBreaking,
    UniversalTransformerACT,
)

WIDTH, LIMIT, TOKENS = 32, 6, (64, 16)
RULES = {
    "GravesACT": lambda: GravesACT(WIDTH, bias_init=-1.0),
    "PonderNet": lambda: PonderNet(WIDTH),
    "ExitGate": lambda: ExitGate(WIDTH),
    "StickBreaking": lambda: StickBreaking(WIDTH, threshold=0.7),
    "UniversalTransformerACT": lambda: UniversalTransformerACT(WIDTH, bias_init=1.0),
    "QHalt": lambda: QHalt(WIDTH, bias_init=0.0),
    "CorrectnessHalt": lambda: CorrectnessHalt(WIDTH, bias_init=0.0),
}
PRECISIONS = {
    "float32": (None, torch.float32),
    "bf16": (torch.bfloat16, torch.float32),
    "fp16": (torch.float16, torch.float32),
    "bf16_weights": (None, torch.bfloat16),
    "fp16_weights": (None, torch.float16),
}
"""What autocast narrows products to, and what the weights are."""


def run(rule: HaltingRule, precision: str) -> tuple[Watched, set[int]]:
    """A forward pass over many tokens; the steps that they took."""
    autocast, weights = PRECISIONS[precision]
    torch.manual_seed(0)
    model = LoopedTransformer(11, WIDTH, 4, rule, max_steps=LIMIT).eval()
    for parameter in rule.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    watched = Watched(rule)
    model.recurrence.use(watched, model.recurrence.readout)
    with torch.no_grad(), torch.autocast("cpu", autocast) if autocast else nullcontext():
        trace = model.to(weights)(torch.randint(11, TOKENS)).trace
    return watched, set(trace.steps.flatten().tolist())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", RULES)
def test_law_5_every_token_leaves_where_it_would_in_float64(name: str, precision: str) -> None:
    watched, steps = run(RULES[name](), precision)
    assert not watched.narrow, watched.narrow
    assert moved(watched)[0] == 0
    assert len(steps) > 1, "too few tokens were tried"


def test_the_replay_notices_a_narrow_gate() -> None:
    watched, _ = run(RULES["GravesACT"](), "bf16")
    elsewhere, tokens = moved(watched, gate=torch.bfloat16)
    assert tokens == 1024 and 0 < elsewhere < tokens / 10


def test_the_watch_notices_narrow_arithmetic() -> None:
    class Narrow(GravesACT):
        def decide(self, view, memory):
            decision, memory = super().decide(view, memory)
            self.seen = (view.state.bfloat16() @ self.gate.weight.bfloat16().T).float()
            return decision, memory

    watched, _ = run(Narrow(WIDTH, bias_init=-1.0), "float32")
    assert {name.partition(" ")[0] for name in watched.narrow} == {"_to_copy", "mm"}
