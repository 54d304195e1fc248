"""The suite of ratios: it reports nothing while what it times is wrong, keeps what it measured, and
counts exactly."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from act import Checkpointed, Recurrence
from act.testing import assert_close
from benchmarks.compute import (
    benchmark,
    checkpointed,
    device_rate,
    machinery,
    packing,
    suites,
    timing,
)
from benchmarks.compute.bare import dense_loop
from benchmarks.compute.halting_times import geometric_steps
from benchmarks.compute.packing import (
    LedAlong,
    bytes_over_share,
    rows_over_steps,
    step_of,
    time_over_share,
)
from benchmarks.compute.shape import Shape
from benchmarks.compute.suites import Case, Suite
from benchmarks.harness import cli, rows
from benchmarks.harness.digest import ROOT
from benchmarks.harness.hardware import hardware
from halting import FixedSteps
from training.reports.leave_at import LeaveAt

TINY = Shape(32, 3, 12, 4)


@pytest.mark.parametrize("mean", [1.5, 2.0, 4.0, 7.0])
def test_halting_times_have_the_mean_that_is_asked_for(mean: float) -> None:
    steps = geometric_steps(8, 128, mean, 8)
    assert steps.shape == (8, 128) and steps.min() >= 1 and steps.max() <= 8
    assert steps.float().mean().item() == pytest.approx(mean, abs=0.01)
    counts = torch.bincount(steps.flatten(), minlength=9)[1:]
    assert (counts[:-1] >= counts[1:]).all() == (mean <= 4.5), (
        "each step takes the same share of those that are left"
    )


def test_tokens_leave_when_they_are_told_to() -> None:
    steps, x, block = geometric_steps(3, 12, 3.0, 8), TINY.input(), TINY.block()
    for rule in (LeaveAt(steps), LedAlong(32, steps)):
        assert torch.equal(Recurrence(block, rule, max_steps=8)(x)[1].steps, steps)


def test_the_bare_loop_computes_what_the_loop_does() -> None:
    block, x = TINY.block(), TINY.input()
    output, _ = Recurrence(block, FixedSteps(), max_steps=5)(x)
    assert_close(dense_loop(block, x, 5).view(output.shape), output, "output")


def test_a_step_of_training_leaves_no_gradient() -> None:
    block, x = TINY.block(), TINY.input()
    seen = []

    def forward() -> torch.Tensor:
        seen.append(torch.is_grad_enabled())
        return dense_loop(block, x, 2)

    for training in (True, False):
        step_of(block, forward, training)()
    assert seen == [True, False] and all(parameter.grad is None for parameter in block.parameters())


def test_what_is_exact_is_so_at_any_size() -> None:
    assert rows_over_steps(TINY, 3.0) == 1.0
    assert 0.9 < bytes_over_share(Shape(64, 4, 64, 4), 4.0) <= 1.06


def test_actions_take_turns_and_short_ones_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, clock = [], [0.0]

    def action(name: str, takes: float) -> Any:
        def go() -> None:
            calls.append(name)
            clock[0] += takes

        return go

    monkeypatch.setattr(timing.time, "process_time", lambda: clock[0])
    long, short = timing.in_turns((action("long", 2.0), action("short", 0.25)), 3, least=0.5)
    assert long == [2.0] * 3 and short == [0.25] * 3
    assert calls == ["long", "short"] + ["long", "short", "short"] * 3
    assert timing.ratio(action("a", 3.0), action("b", 2.0), 2) == [1.5, 1.5]


def fake(name: str, value: Any, limit: float = 1.0, **more: Any) -> Case:
    return Case(
        name,
        limit,
        lambda turns: [value] * turns if isinstance(value, float) else value,
        timing,
        **more,
    )


def suite_of(*cases: Case, correct: tuple[str, ...] = ()) -> Suite:
    return Suite(cases, "as tests do it", correct)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A suite of two figures whose tests pass."""
    monkeypatch.setitem(
        benchmark.SUITES, "cpu", suite_of(fake("one thing", 0.9), fake("another", 1.2))
    )
    monkeypatch.setattr(cli, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "is_right", lambda tests: True)
    return tmp_path


def test_figures_are_kept_told_and_not_measured_twice(
    few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = few / "figures.json"
    assert benchmark.main(["--turns", "3", "--json", str(target)]) == 1, "one target is missed"
    kept = [json.loads(line) for line in (few / "cpu.jsonl").read_text().splitlines()]
    assert [(row["name"], row["value"], row["turns"]) for row in kept] == [
        ("one thing", 0.9, 3),
        ("another", 1.2, 3),
    ]
    assert {"processor", "torch", "date", "code", "low", "high"} <= kept[0].keys()
    told = {figure["figure"]: figure["met"] for figure in json.loads(target.read_text())}
    assert told == {"one thing": True, "another": False}
    page = (few / "cpu.md").read_text()
    assert "| one thing | 0.900 | ≤ 1 |" in page and "missed" in page and kept[0]["torch"] in page
    capsys.readouterr()
    assert benchmark.main([]) == 1 and len((few / "cpu.jsonl").read_text().splitlines()) == 2
    assert (
        benchmark.main(["--again"]) == 1 and len((few / "cpu.jsonl").read_text().splitlines()) == 4
    )
    assert benchmark.main(["--only", "one"]) == 0


def test_a_figure_of_other_code_or_another_machine_does_not_count(
    few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows_after(words: list[str]) -> int:
        assert benchmark.main(words) == 1
        return len((few / "cpu.jsonl").read_text().splitlines())

    assert rows_after([]) == rows_after([]) == 2
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(rows, "hardware", lambda: {**hardware(), "processor": "another"})
        assert rows_after([]) == 4
    first, _ = benchmark.SUITES["cpu"].cases
    assert benchmark.code_version(first) != benchmark.code_version(replace(first, source=benchmark))
    with monkeypatch.context() as changed:
        changed.setattr(benchmark, "code_version", lambda case: "other")
        assert rows_after([]) == 6


def test_a_quick_run_keeps_nothing(few: Path) -> None:
    assert benchmark.main(["--quick"]) == 0 and not list(few.iterdir())


def test_nothing_is_measured_while_a_test_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "RESULTS", tmp_path)
    red = tmp_path / "test_red.py"
    red.write_text("def test_red():\n    assert 1 == 2\n")
    monkeypatch.setitem(
        benchmark.SUITES, "cpu", suite_of(fake("one thing", 0.9), correct=(str(red),))
    )
    assert benchmark.main([]) == 2 and not (tmp_path / "cpu.jsonl").exists()
    said = capsys.readouterr().err
    assert "nothing is measured" in said and "assert 1 == 2" in said
    assert benchmark.is_right(("tests/halting/test_mass.py",))


def test_a_figure_that_needs_more_than_is_here_is_not_met(
    few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        benchmark.SUITES, "cpu", suite_of(fake("with a peer", None, needs="a peer"))
    )
    assert benchmark.main([]) == 1 and "needs a peer" in (few / "cpu.md").read_text()
    assert not (few / "cpu.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--only", "nothing"], "no figure"), (["--turns", "0"], "0 is less than 1")],
)
def test_what_it_refuses(
    few: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(words)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(("suite", "figures"), [("cpu", 36), ("gpu", 51)])
def test_a_suite_names_each_figure_once(suite: str, figures: int) -> None:
    names = [case.name for case in suites.SUITES[suite].cases]
    assert len(names) == len(set(names)) == figures


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_suite_of_a_gpu_says_that_there_is_none(
    few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--suite", "gpu"])
    assert "torch sees none here" in capsys.readouterr().err and not list(few.iterdir())


@pytest.mark.parametrize("training", [False, True])
def test_what_measures_a_gpu_runs_in_its_dtype(
    training: bool, unchecked: None, fresh_compiler: None
) -> None:
    """On the CPU here, at a size at which its figures mean nothing."""
    small = replace(TINY, dtype=torch.bfloat16, attention="ragged")
    compiled = replace(small, compiled=True)
    for shape, rule in ((small, "given"), (compiled, "act")):
        assert len(time_over_share(shape, 4.0, training, rule, 1)) == 1
    assert device_rate.dense_share_of_rate(small, training, 1, large=32)[0] > 0
    assert machinery.graves_act_around_the_block(small, training, 1)[0] > 0
    if training:
        assert 0.9 < bytes_over_share(small, 4.0) < 1.3
        assert packing.time_when_nothing_halts(small, 1)[0] > 0
        for measure in (machinery.against_matrix_products, machinery.against_encoder_layer):
            assert measure(small, 1)[0] > 0
        step = checkpointed.training_step(small, Checkpointed(), steps=3)
        step()


def test_the_work_of_a_dense_pass_is_what_its_shapes_say() -> None:
    tokens, dim, hidden = 3 * 12, 32, 88
    maps = 2 * tokens * (2 * dim * dim + 4 * dim * dim + 3 * dim * hidden)
    attention = 4 * tokens * 12 * dim
    assert device_rate.dense_flops(TINY, training=False) == 8 * (maps + attention)
    assert device_rate.dense_flops(TINY, training=True) == 8 * (
        3 * (maps + attention) - 2 * tokens * 2 * dim * dim
    )


def test_the_tests_of_what_is_timed_exist() -> None:
    """Those of both suites, in one process: pytest ends with an error where one of them is not
    found."""
    named = sorted({test for suite in ("cpu", "gpu") for test in suites.SUITES[suite].correct})
    collect = [sys.executable, "-m", "pytest", "-q", "--collect-only", *named]
    done = subprocess.run(collect, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_on_which_side_of_its_limit_a_figure_should_be() -> None:
    assert fake("a", 1.0).met(1.0) and not fake("a", 1.0).met(1.01)
    assert fake("a", 1.0, sense="≥").met(1.5) and not fake("a", 1.0, sense="=").met(1.001)
