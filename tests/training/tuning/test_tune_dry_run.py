"""A sweep is refused before it begins for what its trials would be refused for, and a dry run of
it writes nothing."""

import pytest

from training.cli.main import main

WORDS = [
    *("tune", "pointer_chase", "--data.length", "6", "--model.width", "16", "--model.num-heads"),
    *("2", "--loop.max-steps", "4", "--device", "cpu", "--penalty.value", "0", "0.01"),
]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--start-from", "nowhere"], "nowhere is not a run folder"),
        (["--precision", "fp16"], "--precision fp16 on a CPU"),
        (["--objective.kind", "Distillation", "--objective.teacher", "nobody"], "nobody"),
        (["--model.width", "15"], "width"),
        (["--batch-size", "7", "--accumulation", "2"], "cannot be divided"),
    ],
)
def test_what_no_trial_can_be_is_refused_at_once(flags, part, dry, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [word for word in WORDS if not ("--model.width" in flags and word == "16")]
    words = [word for word in words if not ("--model.width" in flags and word == "--model.width")]
    assert main([*words, *flags, *dry]) == 2
    said = capsys.readouterr().err
    assert part in said and ("nothing was trained" in said) == bool(dry)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_can_be_is_told_and_not_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, "--seeds", "3", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "2 settings, 3 seeds each" in said and "nothing is trained or written" in said
    assert list(tmp_path.iterdir()) == []
    assert main(["tune", "--dry-run"]) == 2
    assert "Neither a recipe nor a sweep is named" in capsys.readouterr().err
