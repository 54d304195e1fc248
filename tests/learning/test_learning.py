"""It learns, and its steps follow the difficulty: short forms of the recipes."""

import json

from training.config.run_config import RunConfig
from training.recipes.load import load_recipe
from training.start import train


def shorter(recipe: str, output, **changes) -> RunConfig:
    config = load_recipe(recipe)
    return RunConfig.model_validate(
        {**config.model_dump(), "output": str(output), "name": recipe, **changes}
    )


def test_pointer_chase_thinks_longer_where_the_chain_is_longer(tmp_path):
    task = {"kind": "PointerChase", "options": {"length": 8}}
    penalty = {"value": 0.01, "warmup": 150}
    assert (
        train(
            shorter(
                "pointer_chase",
                tmp_path,
                data=task,
                penalty=penalty,
                updates=400,
                test_examples=256,
            )
        )
        == 0
    )
    summary = json.loads((tmp_path / "pointer_chase" / "summary.json").read_text())
    assert summary["accuracy"] > 0.97
    assert summary["mean_steps"] < 4
    assert summary["spearman_steps_difficulty"] > 0.5
    by_hops = [summary["steps_by_difficulty"][str(hops)] for hops in (1, 2, 3)]
    assert by_hops == sorted(by_hops)


def test_parity_thinks_longer_at_later_positions(tmp_path):
    task = {"kind": "Parity", "options": {"length": 6}}
    penalty = {"value": 0.01, "warmup": 150}
    assert (
        train(
            shorter("parity", tmp_path, data=task, penalty=penalty, updates=500, test_examples=256)
        )
        == 0
    )
    summary = json.loads((tmp_path / "parity" / "summary.json").read_text())
    assert summary["accuracy"] > 0.97
    assert summary["spearman_steps_difficulty"] > 0.5
