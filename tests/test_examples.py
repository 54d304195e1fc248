"""The examples run as their own first lines say: a rule and a task in one file each, with nothing
else edited."""

from pathlib import Path

import numpy as np
import pytest
import torch

from act.testing import HaltingRuleContract
from act.testing.probes import view_alone
from halting import HaltingRule
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.terminal import map as terminal
from training import load_run
from training.cli.main import main
from training.config.parts import resolve
from training.recipes.load import load_recipe

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
RULE = f"{EXAMPLES / 'my_halting_rule.py'}:Stillness"
SHORT = ["--updates", "20", "--batch-size", "16", "--eval-every", "10"]
SHORT += ["--eval-examples", "16", "--test-examples", "16"]


class TestStillness(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return resolve(RULE, HaltingRule)(dim=dim)  # pyright: ignore[reportCallIssue]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run with the example's rule, named on the command line."""
    folder = tmp_path_factory.mktemp("examples")
    words = [
        "--halting.kind",
        RULE,
        "--halting.rest-init",
        "2",
        "--model.width",
        "16",
        "--loop.max-steps",
        "5",
    ]
    assert (
        main(["train", "pointer_chase", *words, *SHORT, "--output", str(folder), "--name", "still"])
        == 0
    )
    return folder / "still"


def test_a_rule_in_a_file_is_under_sixty_lines():
    assert len((EXAMPLES / "my_halting_rule.py").read_text().splitlines()) < 60


def test_a_rule_in_a_file_is_trained_by_its_name(run: Path):
    made = load_run(run)
    rule = made.model.recurrence.rule
    assert type(rule).__name__ == "Stillness" and made.config.halting.options == {"rest_init": 2.0}
    fresh = resolve(RULE, HaltingRule)(dim=16, rest_init=2.0)  # pyright: ignore[reportCallIssue]
    for (name, learned), initial in zip(rule.named_parameters(), fresh.parameters(), strict=True):
        assert not torch.equal(learned, initial), f"{name} has not learned"


def test_a_rule_in_a_file_is_shown_in_a_ponder_map(run: Path, capsys: pytest.CaptureFixture[str]):
    found = PonderMap.load(run / "ponder_map")
    assert found.metadata["rule"] == "Stillness"
    again = load_run(run).ponder_map(load_run(run).task.batch("test", 0, 16))
    np.testing.assert_array_equal(found.steps, again.steps)
    assert ((found.score > 0) & (found.score < 1) | np.isnan(found.score)).all(), (
        "the hazard is its score"
    )
    assert main(["show", str(run)]) == 0
    assert "Stillness" in capsys.readouterr().out
    assert "Stillness" in terminal.render(found, 1, width=100)


def test_a_state_at_rest_stops_sooner():
    """What the rule adds to Graves' gate: of two equal states, the one that moved less has the
    larger hazard."""
    rule = resolve(RULE, HaltingRule)(dim=4)  # pyright: ignore[reportCallIssue]
    rule.eval()
    state, before = torch.ones(2, 4), torch.tensor([[0.99] * 4, [0.0] * 4])
    decision, memory = rule.decide(view_alone(state, torch.zeros(2, 3), 1, 5), before)
    assert decision.score[0] > 0.9 > 0.2 > decision.score[1]
    assert torch.equal(memory, state)  # pyright: ignore[reportArgumentType]


def test_a_task_in_a_file_is_trained_by_its_name(tmp_path: Path):
    name = f"{EXAMPLES / 'my_task.py'}:recipe"
    assert load_recipe(name).halting.kind == "GravesACT"
    assert main(["train", name, *SHORT, "--output", str(tmp_path)]) == 0
    made = load_run(tmp_path / "my_task-001")
    assert type(made.task).__name__ == "Brackets"
    shown = made.ponder_map("(()())")
    assert shown.texts == [list("(()())")] and shown.metadata["difficulty_name"] == "depth"
    assert PonderMap.load(tmp_path / "my_task-001" / "ponder_map").metadata["task"] == "Brackets"
