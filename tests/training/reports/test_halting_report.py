"""`ponder report`: what is compared at equal compute, and that it can say yes, no, and that nothing
was shown."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from small_runs import run_of, small

from halting.maps.estimate import ratio
from training.cli.main import main
from training.exits.answers import Examples, answer
from training.exits.exit import Exit, parse_exit
from training.reports.curves import (
    Curve,
    ExitSetting,
    Point,
    first_right,
    fixed_curve,
    measure,
    oracle_curve,
    random_curve,
)
from training.reports.equal_compute import (
    Sums,
    as_right_for_less,
    compare,
    interval,
    sentence,
    verdict,
)
from training.reports.halting_report import examine
from training.runs.loaded import Run
from training.start import train
from training.tasks import PointerChase
from training.tasks.task import Batch

SEQUENCES, ANSWERS = 400, 8


def point(share: float, flops: float, seed: int = 0, name: str = "p") -> Point:
    """Sequences of eight answers, each right with that chance."""
    right = np.random.default_rng(seed).binomial(ANSWERS, share, SEQUENCES).astype(float)
    return Point(
        ExitSetting(name, cast(Run, None), None), right, np.full(SEQUENCES, flops * ANSWERS), flops
    )


def said(learned: list[Point], trained: Point, *others: Curve) -> tuple[str, str]:
    asked = np.full(SEQUENCES, float(ANSWERS))
    found = verdict(compare(Curve("learned", tuple(learned)), trained, others, asked, asked))
    dear = verdict(
        compare(
            Curve("learned", tuple(learned)), trained, others, asked, asked, lambda each: slow(each)
        )
    )
    return found[0], sentence(found, dear)


def slow(point: Point) -> float:
    """The learned rule takes three times as long for its FLOPs as others."""
    return float(point.steps * (3 if point.name == "learned" else 1))


def test_an_oracle_leaves_when_the_answer_is_right_and_stays_right():
    says = np.array([[[1, 1, 1, 1], [2, 1, 2, 2], [1, 2, 2, 1], [2, 2, 1, 1], [9, 9, 9, 9]]])
    targets, asked = np.array([[1, 2, 2, 1, -100]]), np.array([[True, True, True, True, False]])
    # right all along; lost once; right but not at the end; from step 3 on; not asked, so with the
    # slowest
    assert first_right(says, targets, asked).tolist() == [[1, 3, 1, 3, 3]]


def test_accuracy_between_two_settings_is_what_a_coin_would_give():
    asked = np.full(SEQUENCES, float(ANSWERS))
    sums = Sums.of([point(0.5, 1.0), point(0.9, 3.0, 1)], asked, asked)
    low, high = sums.accuracy_at(1.0), sums.accuracy_at(3.0)
    assert 0.45 < low < 0.55 and 0.85 < high < 0.95
    assert sums.accuracy_at(2.5) == pytest.approx(0.25 * low + 0.75 * high)
    assert sums.accuracy_at(99.0) == high, "whoever may compute more need not"
    hump = Sums.of([point(0.5, 1.0), point(0.9, 2.0, 1), point(0.7, 5.0, 2)], asked, asked)
    assert hump.best_at(4.0).accuracy_at(4.0) == hump.accuracy_at(2.0) > hump.accuracy_at(4.0)
    assert hump.best_at(1.5) is hump and hump.best_at(0.5) is hump
    found = interval(sums, 3.0)
    known = ratio(point(0.9, 3.0, 1).right, asked)
    assert (found.value, found.low, found.high) == pytest.approx(
        (known.value, known.low, known.high), abs=2e-3
    )


def test_the_verdict_can_be_yes_no_and_that_nothing_was_shown():
    trained = point(0.9, 2.0, name="learned")
    worse, better = (
        Curve("fixed depth", (point(0.4, 1.0, 1), point(0.95, 4.0, 2))),
        point(0.97, 1.5, 3),
    )
    known, text = said([trained], trained, worse)
    assert known == "worth it" and "was worth it" in text and "of the others, fixed depth" in text
    assert "but in equal measured time on this machine fixed depth is right" in text
    known, text = said([trained], trained, worse, Curve("convergence", (better,)))
    assert (
        known == "not worth it"
        and "convergence is right" in text
        and "more than the learned rule" in text
    )
    known, text = said([trained], trained, worse, Curve("confidence", (point(0.9, 1.9, 7),)))
    assert (
        known == "no difference shown"
        and "not shown to be worth it" in text
        and "may be chance" in text
    )
    assert (
        said([trained], trained, worse, Curve("oracle", (better,), usable=False))[0] == "worth it"
    ), "no rule can"
    known, text = said([trained], trained, worse, Curve("confidence", (point(0.9, 2.0),)))
    assert (
        known == "no difference shown"
        and "and the learned rule as well; " in text
        and "chance" not in text
    )


def test_what_is_as_right_for_less_is_told_with_what_it_takes():
    trained = point(0.9, 4.0, name="learned")
    same, cheaper = point(0.9, 3.0, name="3 steps"), point(0.91, 1.0, 5, name="1 step")
    assert cheaper.right.sum() > trained.right.sum()
    worse, dear = point(0.5, 0.5, 2), point(0.9, 3.9)
    told = as_right_for_less(
        trained, [Curve("fixed depth", (worse, same)), Curve("oracle", (cheaper,), usable=False)]
    )
    assert told == " Fixed depth (3 steps) is no less often right with 75% of its compute."
    told = as_right_for_less(
        trained, [Curve("fixed depth", (worse, same)), Curve("confidence", (cheaper,))]
    )
    assert told == " Confidence (1 step) is no less often right with 25% of its compute."
    assert as_right_for_less(trained, [Curve("fixed depth", (worse, dear))]) == ""


def test_an_exit_that_costs_more_at_least_is_compared_where_it_begins():
    trained, asked = point(0.8, 2.0), np.full(SEQUENCES, float(ANSWERS))
    learned = Curve("learned", (trained, point(0.95, 4.0, 1)))
    [found] = compare(
        learned, trained, [Curve("dear", (point(0.85, 3.0, 2), point(0.9, 5.0, 3)))], asked, asked
    )
    assert found.compute == 3.0 and found.learned.value == pytest.approx((0.8 + 0.95) / 2, abs=0.02)
    assert found.gain.value == pytest.approx(found.learned.value - found.accuracy.value)
    assert found.gain.low < found.gain.value < found.gain.high and found.costlier
    assert "the best of the others, dear (at the least that it can be had for);" in sentence(
        *[verdict([found])] * 2
    )
    [found] = compare(
        learned, trained, [Curve("cheap", (point(0.4, 1.0, 2), point(0.9, 5.0, 3)))], asked, asked
    )
    assert not found.costlier and "at the least" not in sentence(*[verdict([found])] * 2)


def test_controls_compute_what_they_should(tmp_path):
    torch.manual_seed(0)
    run = run_of(tmp_path, halting={"kind": "ExitGate"})
    examples = Examples.of(run.task, "test", 0, 48, 20)
    trained, answers = measure(ExitSetting("learned", run, Exit("learned")), examples)
    [dealt] = random_curve(run, examples, [answers.steps]).points
    assert dealt.flops.sum() == pytest.approx(trained.flops.sum()) and not np.allclose(
        dealt.flops, trained.flops
    )
    assert (
        dealt.setting.steps is not None
        and (np.sort(dealt.setting.steps.ravel()) == np.sort(answers.steps.ravel())).all()
    )
    [oracle] = oracle_curve(run, examples).points
    full = answer(run, parse_exit("fixed:6"), examples)
    right = (full.predictions == examples.targets).sum(1)
    assert (oracle.right == right).all() and 1 < oracle.steps < 4 and not oracle.setting.runs
    assert oracle.flops.sum() / 48 / 6 == pytest.approx(
        full.flops_once + oracle.steps * full.flops_step
    )
    depths = fixed_curve(run, examples, 4)
    assert [each.steps for each in depths.points] == [1, 3, 4, 6]
    run = run_of(tmp_path, halting={"kind": "CorrectnessHalt"})
    given = answer(run, Exit("learned"), examples).steps
    given[::2] = 2
    [dealt] = random_curve(run, examples, [given]).points
    assert (
        dealt.setting.steps is not None
        and (dealt.setting.steps == dealt.setting.steps[:, :1]).all()
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two runs: an exit gate, and a fixed depth."""
    output, shape = (
        tmp_path_factory.mktemp("report"),
        {"loop": {"max_steps": 4}, "halting": {"kind": "ExitGate", "options": {"bias_init": -1.0}}},
    )
    assert train(small(output, name="gate", test_examples=64, **shape)) == 0
    assert (
        train(
            small(
                output,
                name="fixed",
                loop={"max_steps": 2},
                halting={"kind": "FixedSteps"},
                updates=4,
            )
        )
        == 0
    )
    return output


def test_a_report_of_a_run(folder, tmp_path, capsys):
    run = Path(shutil.copytree(folder / "gate", tmp_path / "gate"))
    flags = ["--points", "3", "--repeats", "1", "--exit", "convergence", "confidence"]
    assert main(["report", str(run), "--fixed", str(folder / "fixed"), *flags]) == 0
    out = capsys.readouterr().out
    found: dict[str, Any] = json.loads((run / "halting_report.json").read_text())
    text = (run / "halting_report.md").read_text()
    assert (
        found["sentence"] in out
        and f"**{found['sentence']}**" in text
        and "at equal compute" in text
    )
    for told in (out, text):
        table, _, below = told.replace("\n", " ").partition("at equal compute: ")
        assert "(oracle)" in table and "first step after which its answer is right" in below
    assert (run / "halting_report.png").read_bytes().startswith(
        b"\x89PNG"
    ) and "(halting_report.png)" in text
    names = ["convergence", "confidence", "fixed depth", "fixed, from scratch", "random", "oracle"]
    assert [each["exit"] for each in found["at_equal_compute"]] == names
    assert [each["exit"] for each in found["at_equal_time"]] == names[:-1]
    assert list(found["curves"]) == ["learned", *names]
    for rows in found["curves"].values():
        computes = [row["flops_per_token"] for row in rows]
        assert computes == sorted(computes)
        assert all(
            row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
            for row in rows
        )
        assert all(
            (row["micros_per_token"] or 0) > 0 or rows == found["curves"]["oracle"] for row in rows
        )
    learned, fixed = found["trained"], found["curves"]["fixed depth"]
    summary = json.loads((run / "summary.json").read_text())
    assert learned["accuracy"]["value"] == pytest.approx(summary["accuracy"], abs=1e-6)
    assert learned["steps"] == pytest.approx(summary["mean_steps"])
    assert fixed[-1]["flops_per_token"] > learned["flops_per_token"] and found["answers"] == 64 * 6
    assert found["curves"]["fixed, from scratch"][0]["steps"] == 2
    assert main(["report", str(run), *flags]) == 2
    assert "halting_report.md exists already" in capsys.readouterr().err


class OwnAnswers(PointerChase):
    """Asks for what a model says at full depth: so full depth is always right, and fewer steps now
    and then."""

    def __init__(self, run: Run):
        super().__init__(6)
        self.run = run

    def batch(self, split: str, index: int, size: int) -> Batch:
        batch = super().batch(split, index, size)
        with torch.no_grad(), parse_exit("fixed:6").applied_to(self.run):
            return replace(batch, targets=self.run.model(batch.tokens).logits.argmax(-1))


@pytest.mark.parametrize(
    ("halting", "exits", "known"),
    [
        (
            {"kind": "ConfidenceExit", "options": {"measure": "gap", "threshold": 0.3}},
            (),
            "worth it",
        ),
        ({"kind": "ExitGate"}, ("convergence:kl",), "not worth it"),
    ],
)
def test_a_rule_that_knows_is_worth_it_and_a_gate_of_chance_is_not(tmp_path, halting, exits, known):
    """Nothing was trained: a gate with random weights lets tokens go at random, and one that looks
    how sure the answer is knows better than any fixed depth."""
    torch.manual_seed(2)
    run = run_of(tmp_path, halting=halting)
    run = replace(run, task=OwnAnswers(run))
    examples = Examples.of(run.task, "test", 0, 300, 300)
    found = examine(run, [], exits, examples, num_points=4, repeats=1)
    assert found.verdict == known, found.sentence
    oracle = found.comparisons[-1]
    assert oracle.name == "oracle" and oracle.gain.value < 0


def test_what_cannot_be_compared_is_refused_or_said(folder, tmp_path, capsys):
    other = Path(shutil.copytree(folder / "fixed", tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "seed": 1}))  # of the examples, too
    assert main(["report", str(folder / "gate"), "--fixed", str(other)]) == 2
    assert "was trained on other examples" in capsys.readouterr().err
    for flags, says in (
        (["--exit", "convergence:0.1"], "names its threshold"),
        (["--points", "0"], "--points is 0"),
        (["--exit", "never"], "is not known"),
    ):
        assert main(["report", str(folder / "gate"), *flags]) == 2
        assert says in capsys.readouterr().err
    assert not (folder / "gate" / "halting_report.md").exists()
