"""A training that diverges is told as one, whoever sees it first."""

from pathlib import Path

import numpy as np
import pytest
from small_runs import small, train_only

from halting import UsageError
from halting.maps.ponder_map import PonderMap
from training.loop import loop


def test_a_divergence_that_only_an_evaluation_sees_is_named_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The probe before a checkpoint looks at one example; the others' answers count too."""
    monkeypatch.setattr(loop, "is_sound", lambda engine, task: True)
    schedule = {"kind": "WarmupCosine", "options": {"warmup": 0}}
    optimizer = {"learning_rate": 1e30, "clip": 1e30}
    assert train_only(small(tmp_path, name="run", optimizer=optimizer, schedule=schedule)) == 1
    said = capsys.readouterr().out
    assert "The training diverged: the model gives answers that are no numbers" in said
    assert "at update 5." in said and "checkpoints/update-000" in said
    assert "have a mass" not in said


def test_a_map_of_a_diverged_model_says_so() -> None:
    mass = np.full((1, 2, 2), np.nan)
    ones = np.ones((1, 2), np.int64)
    with pytest.raises(UsageError, match="2 tokens have a mass that is no number") as error:
        PonderMap(
            tokens=ones,
            texts=[["a", "b"]],
            valid=ones > 0,
            steps=ones,
            ponder=mass[..., 0],
            mass=mass,
            score=mass,
        )
    assert "that has diverged" in error.value.why
