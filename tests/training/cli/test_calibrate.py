"""`ponder calibrate`: what a sequence loses, in which order settings are tried, and what is kept
beside the weights."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import run_of, small

from halting import (
    ConvergenceExit,
    CorrectnessHalt,
    DistilledExit,
    ExitGate,
    GravesACT,
    HaltingRule,
    LookaheadDepth,
    QHalt,
    UsageError,
)
from halting.rules.confidence_exit import ConfidenceExit
from training.checkpoints import manifest
from training.cli.main import main
from training.exits.answers import Answers, Examples, answer
from training.exits.calibrated import apply_exit
from training.exits.calibration import FIRST
from training.exits.evaluate_exit import evaluate_exit
from training.exits.exit import parse_exit
from training.exits.guarantee import read_guarantee
from training.exits.path import chains, evenly, open_exit, path
from training.exits.quality_loss import quality_loss
from training.exits.repeats import repeats_in_words
from training.objectives.outcomes import step_outcomes
from training.runs.loaded import load_run
from training.start import train
from training.tasks import PointerChase
from training.tasks.task import IGNORE, Batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run that leaves at several different steps and is right now and then."""
    output = tmp_path_factory.mktemp("calibrate")
    assert train(small(output, name="run", updates=30, batch_size=24, loop={"max_steps": 6})) == 0
    return output / "run"


@pytest.fixture
def own(folder, tmp_path, monkeypatch) -> Path:
    """A copy of it that a test may write into; few settings are tried."""
    monkeypatch.setattr("training.exits.calibration.SETTINGS", 9)
    return Path(shutil.copytree(folder, tmp_path / "run"))


def answers(predictions, nats=None) -> Answers:
    predicted = np.array(predictions)
    lost = np.zeros(predicted.shape) if nats is None else np.array(nats, dtype=float)
    return Answers(predicted, lost, np.ones_like(predicted), 0, 1)


def test_what_a_sequence_loses():
    targets = np.array([[1, 2, 3, 4], [1, 2, IGNORE, IGNORE], [IGNORE] * 4, [1, 1, 1, 1]])
    asked = targets != IGNORE
    full = answers([[1, 2, 3, 9], [9, 2, 0, 0], [5, 5, 5, 5], [1, 1, 1, 1]])
    early = answers([[1, 9, 9, 4], [8, 2, 7, 7], [6, 6, 6, 6], [1, 1, 1, 1]])
    assert quality_loss("lost", early, full, targets, asked).tolist() == [0.5, 0, 0]
    assert quality_loss("changed", early, full, targets, asked).tolist() == [0.75, 0.5, 0]
    full = answers(full.predictions, [[0, 0, 0, 2], [1, 1, 0, 0], [0] * 4, [0] * 4])
    early = answers(early.predictions, [[0, 1, 1, 0], [0.5, 1, 9, 9], [9] * 4, [9] * 4])
    # a mean over the answers, gains included, cut off at 0 and at 1 nat
    assert quality_loss("nats", early, full, targets, asked).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "rule",
    [
        GravesACT(4),
        ExitGate(4),
        CorrectnessHalt(4),
        LookaheadDepth(4),
        DistilledExit(4),
        ConfidenceExit("entropy"),
        *map(ConvergenceExit, ("kl", "argmax", "cosine")),
    ],
)
def test_every_value_of_a_threshold_is_one_that_the_rule_takes(rule: HaltingRule):
    threshold = rule.exit_threshold
    assert threshold is not None
    values = [threshold.at(way) for way in np.linspace(0, 1, 40)]
    assert values in (sorted(values), sorted(values, reverse=True)) and len(set(values)) > 20
    assert (values[0], values[-1]) == pytest.approx((threshold.safest, threshold.cheapest))
    assert threshold.option in vars(rule) or f"_{threshold.option}" in vars(rule)
    given = {name: vars(rule)[name] for name in ("criterion", "measure") if name in vars(rule)} or {
        "dim": 4
    }
    for value in values:
        type(rule)(**given, **{threshold.option: value})


def test_settings_are_spread_evenly_in_what_they_take():
    """Nearly all of the change is in a thousandth of the way; where nothing changes, nothing is
    kept."""
    kept = evenly(
        lambda way: way, lambda way: 10 - 8 * float(np.clip((way - 0.4) * 1000, 0, 1)), 40
    )
    assert kept[0] == 0 and len(kept) >= 8 and all(0.4 < way <= 0.401 for way in kept[1:-1])
    assert evenly(lambda way: way, lambda way: 3.0, 40) == [0.0]
    spread, closer = (
        evenly(lambda way: way, lambda way: 10 - 8 * way, 5, near) for near in (None, 4.3)
    )
    assert set(spread) < set(closer), "close to what is looked for, on both sides"
    assert max(way for way in closer if 10 - 8 * way > 4.3) == pytest.approx(5.7 / 8, abs=0.005)
    assert min(way for way in closer if 10 - 8 * way <= 4.3) == pytest.approx(5.7 / 8, abs=0.005)


def test_an_exit_is_tried_from_the_safest_to_the_cheapest(folder):
    run = load_run(folder)
    few = Examples.of(run.task, "train", 0, 16, 16)
    for spec in ("learned", "convergence:kl", "confidence:gap", "convergence:argmax"):
        settings = path(run, open_exit(run, spec), few, 9)
        steps = [answer(run, each, few).mean_steps for each in settings]
        assert steps == sorted(steps, reverse=True) and len(set(steps)) == len(steps) > 2
        assert all(parse_exit(each.name).steps == each.steps for each in settings)
    whole, from_training = chains(run, open_exit(run, "learned"), few, 9)
    assert (
        from_training[0].name == "learned:epsilon=0.01"
        and from_training[1:] == whole[-len(from_training) + 1 :]
    )
    assert len(chains(run, open_exit(run, "confidence"), few, 5)) == 1
    assert [each.name for each in path(run, open_exit(run, "fixed"), few, 3)] == [
        f"fixed:{n}" for n in range(6, 0, -1)
    ]


def test_answers_are_those_of_really_running_with_the_exit(folder):
    """In any batches, and the same as those of `ponder eval`."""
    run = load_run(folder)
    leaving = parse_exit("convergence:0.5")
    tally = evaluate_exit(run, leaving, "test", 40, 40).figures()
    for batch_size in (40, 16):
        examples = Examples.of(run.task, "test", 0, 40, batch_size)
        found = answer(run, leaving, examples)
        right = (found.predictions == examples.targets)[examples.has_target]
        assert found.mean_steps == pytest.approx(tally["mean_steps"])
        assert right.mean() == pytest.approx(tally["accuracy"], abs=1e-6)
        assert found.nats[examples.has_target].mean() == pytest.approx(tally["loss"], rel=1e-5)
        assert found.flops.sum() / examples.valid.sum() == pytest.approx(found.flops_per_token)
    assert 1 < tally["mean_steps"] < 6


@pytest.mark.parametrize("per_sequence", [True, False])
def test_why_settings_are_run_and_not_read_off_a_map_that_was_recorded_once(tmp_path, per_sequence):
    """Who has left keeps its keys and values (law 2), so what the others say at step n depends on
    when their neighbours left: what full depth said at that step is what an early exit says only
    where sequences leave as one."""
    run = run_of(tmp_path, halting={"kind": "GravesACT", "per_sequence": per_sequence})
    examples = Examples.of(run.task, "test", 0, 64, 64)
    early = answer(run, parse_exit("convergence:1.0"), examples)
    with (
        torch.no_grad(),
        parse_exit("convergence:argmax:99").applied_to(run),
    ):  # nobody leaves: the lens of every step
        output = run.model(examples.batches[0].tokens, record_lens=True)
    assert (output.trace.steps == 6).all() and len(np.unique(early.steps)) > 2
    every = step_outcomes(output, examples.batches[0].targets).loss.numpy()
    replayed = np.take_along_axis(every, early.steps[..., None] - 1, 2)[..., 0]
    assert np.allclose(replayed, early.nats, atol=1e-9) == per_sequence


def test_the_guarantee_is_kept_beside_the_weights_and_used(own, capsys):
    words = [
        "calibrate",
        str(own),
        "--risk",
        "0.1",
        "--examples",
        "300",
        "--exit",
        "learned",
        "convergence",
    ]
    assert main(words) == 0
    said = capsys.readouterr().out
    run = load_run(own)
    found = read_guarantee(run.weights)
    assert found is not None and found.found and found.exit in said and "★" in said
    assert [line for line in said.splitlines() if line.endswith(" on:")] == [
        "learned, from its safest setting on:",
        "learned, from its trained value on:",
        "convergence, from its safest setting on:",
    ]
    parts = said.split("\n\n")
    learned, again, convergence = (part for part in parts if part.split("\n")[0].endswith(" on:"))
    assert "convergence:" not in learned + again and "learned:" not in convergence
    assert sorted({each.order for each in found.tested}) == [1, 2, 3]
    chosen = found.chosen
    assert chosen is not None and chosen.holds and chosen.p_value <= 0.05 / 3, (
        "three orders share the chance of an error"
    )
    assert chosen.risk < 0.1 and chosen.flops_per_token < found.full_flops_per_token
    examples = Examples.of(run.task, "validation", FIRST, 300, 100)
    assert found.data_fingerprint == examples.fingerprint() and found.sequences == 300
    assert (
        found.data_fingerprint
        != Examples.of(run.task, "validation", FIRST + 1, 300, 300).fingerprint()
    )
    full, early = (
        answer(run, parse_exit("fixed:6"), examples),
        answer(run, parse_exit(found.exit), examples),
    )
    assert quality_loss(
        "lost", early, full, examples.targets, examples.has_target
    ).mean() == pytest.approx(chosen.risk)

    assert main(["eval", str(own), "--json", str(own / "e.json")]) == 0
    assert f"calibrated is {found.exit}. With confidence 0.95" in capsys.readouterr().out
    rows = json.loads((own / "e.json").read_text())
    assert [row["exit"] for row in rows] == ["learned", "calibrated"]
    calibrated = apply_exit(load_run(own), "calibrated")
    batch = run.task.batch("test", 0, 16)
    assert calibrated.forward(batch).trace.steps.float().mean() == pytest.approx(
        rows[1]["mean_steps"], rel=1e-6
    )
    assert calibrated.model.recurrence.max_steps == 6

    assert main(words) == 2
    assert "guarantee.json exists already" in capsys.readouterr().err
    assert main([*words, "--name", "other", "--loss", "changed"]) == 0
    assert main(["eval", str(own), "--exit", "calibrated:other"]) == 0
    assert "not those of full depth" in capsys.readouterr().out
    weights = own / "final" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    manifest.write(weights.parent)
    assert main(["eval", str(own)]) == 2
    assert "is of other weights" in capsys.readouterr().err


def test_where_nothing_cheaper_holds_full_depth_is_used_and_that_is_said(own, capsys):
    """Of two steps neither can be left out."""
    config = json.loads((own / "config.json").read_text())
    config["loop"]["max_steps"] = 2
    (own / "config.json").write_text(json.dumps(config))
    assert main(["calibrate", str(own), "--examples", "300", "--exit", "fixed"]) == 0
    assert "Nothing cheaper than full depth could be shown" in capsys.readouterr().out
    run = apply_exit(load_run(own), "calibrated")
    found = read_guarantee(run.weights)
    assert (
        found is not None and not found.found and found.exit == "fixed:2" and found.chosen is None
    )
    assert (run.forward(run.task.batch("test", 0, 4)).trace.steps == 2).all()


class InTurn(PointerChase):
    """Deals 60 examples out in turn, the same in every split."""

    def batch(self, split: str, index: int, size: int) -> Batch:
        rows = [super(InTurn, self).batch("train", (index + one) % 60, 1) for one in range(size)]
        return Batch.stack(rows)


def test_sequences_that_are_no_fresh_draws_are_told():
    task = InTurn(12)
    dealt, trained = (
        Examples.of(task, "validation", FIRST, 200, 64),
        Examples.of(task, "train", 0, 30, 30),
    )
    told = repeats_in_words(dealt, trained)
    assert told is not None and told.startswith(
        "Of the 200 sequences 140 say the same as another one, and 90 are"
    )
    fresh = Examples.of(PointerChase(12), "validation", FIRST, 200, 64)
    assert repeats_in_words(fresh, trained) is None


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--risk", "0"], "--risk is 0.0"),
        (["--risk", "1"], "--risk is 1.0"),
        (["--confidence", "1"], "--confidence is 1.0"),
        (["--confidence", "1.5"], "--confidence is 1.5"),
        (["--examples", "100"], "with 2 orders of tests it takes 368 sequences.*--examples 736"),
        (
            ["--exit", "convergence", "--examples", "100"],
            "it takes 299 sequences at least.*--examples 598",
        ),
        (["--exit", "fixed:3"], "fixed:3 has no threshold"),
        (["--exit", "confidence:0.5"], "names its threshold"),
        (["--exit", "learned:epsilon=0.5"], "names its threshold"),
        (["--exit", "convergence:kl:threshold=0.1"], "names its threshold"),
        (["--exit", "sometimes"], "--exit sometimes is not known"),
        (["--name", "config"], "cannot be the name"),
        (["--name", "a/b"], "cannot be the name"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_any_work(folder, capsys, flags, says):
    assert main(["calibrate", str(folder), *flags]) == 2
    err = capsys.readouterr().err.replace("\n", " ")
    assert re.search(says, err) and "fix:" in err
    assert not (folder / "final" / "guarantee.json").exists()


def test_an_exit_that_nothing_moves_and_a_damaged_guarantee(own, capsys):
    run = load_run(own)
    run.model.recurrence.rule = QHalt(16)
    with pytest.raises(UsageError, match="QHalt has no option that says how early"):
        open_exit(run, "learned")
    (own / "final" / "guarantee.json").write_text('{"exit": 3}')
    assert main(["eval", str(own), "--exit", "calibrated"]) == 2
    assert "is no guarantee" in capsys.readouterr().err
    assert main(["eval", str(own), "--exit", "calibrated:none"]) == 2
    assert "ponder calibrate" in capsys.readouterr().err
