"""`ponder profile`: shares are whole, the model stays as it was. Nothing asks for a time."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from profiled_runs import MODES, PONDER, small_run
from small_runs import small
from torch import nn

from halting.errors import UsageError
from training.cli.main import main
from training.exits.exit import Exit
from training.resources.break_even import auto_packs_from, break_even, pays_from, sizes
from training.resources.profile_text import profile_text
from training.resources.run_profile import profile
from training.resources.section_timer import (
    BACKWARD,
    BLOCK,
    LOOP,
    REST,
    RULE,
    SECTIONS,
    SectionTimer,
)
from training.resources.workload import TimedCase, Workload, race, unchanged
from training.runs.loaded import Run, load_run
from training.start import train

ROUTER = {"kind": "TokenChoiceRouter", "options": {"balance": "bias", "warmup": 2}}


def test_each_moment_counts_for_one_section():
    now = 0.0

    def wait(seconds: float, *inside: Any) -> None:
        nonlocal now
        now += seconds
        for call in inside:
            call()

    timer = SectionTimer(lambda: now)
    loop, block, rest, rule = (timer.timed(section, wait) for section in (LOOP, BLOCK, REST, RULE))
    with timer.running():
        wait(1)
        loop(
            2,
            lambda: block(4),
            lambda: rest(8),
            lambda: rule(16, lambda: rest(32), lambda: block(64)),
        )
        timer.timed(BACKWARD, wait)(128, lambda: block(256))
    wait(512)
    assert timer.seconds == {
        BLOCK: 4,
        RULE: 16 + 32 + 64,
        LOOP: 2,
        REST: 1 + 8,
        BACKWARD: 128 + 256,
    }
    assert timer.shares() == {name: seconds / 511 for name, seconds in timer.seconds.items()}


def test_timers_go_on_one_object_and_come_off_whatever_happens():
    mine, other = nn.Identity(), nn.Identity()
    other.__dict__["forward"] = kept = lambda x: x
    timer = SectionTimer()

    def fail() -> None:
        with timer.around({(mine, "forward"): BLOCK, (other, "forward"): RULE}):
            assert "forward" in vars(mine) and vars(other)["forward"] is not kept
            assert "forward" not in vars(nn.Identity())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "forward" not in vars(mine) and vars(other)["forward"] is kept


@pytest.mark.parametrize("backprop", ["full", "checkpointed"])
def test_shares_sum_to_one_and_every_section_has_some(tmp_path, backprop):
    run = small_run(tmp_path, loop={"max_steps": 3, "backprop": backprop})
    with unchanged(run.model):
        work = Workload(run, run.task.batch("test", 0, 4))
        inference, training = work.shares(TimedCase(False), 2), work.shares(TimedCase(True), 2)
    for shares in (inference, training):
        assert tuple(shares) == SECTIONS and sum(shares.values()) == pytest.approx(1)
        assert all(shares[name] > 0 for name in (BLOCK, RULE, LOOP, REST))
    assert inference[BACKWARD] == 0 < training[BACKWARD]


def state(run: Run) -> dict[str, Any]:
    """All that profiling could leave changed."""
    model, recurrence = run.model, run.model.recurrence
    owners = [*model.modules(), recurrence.readout]
    return {
        "modes": [module.training for module in model.modules()],
        "own": [sorted(vars(owner)) for owner in owners],
        "parts": (
            id(recurrence.rule),
            id(recurrence.readout),
            recurrence.path,
            recurrence.max_steps,
            recurrence.head,
        ),
        "hooks": [
            len(module._forward_hooks) + len(module._forward_pre_hooks)
            for module in model.modules()
        ],
        "gradients": [
            (id(each.grad), None if each.grad is None else each.grad.tolist())
            for each in model.parameters()
        ],
        "numbers": {
            name: each.tolist()
            for name, each in [*model.named_buffers(), *model.named_parameters()]
        },
        "draws": torch.get_rng_state().tolist(),
    }


@pytest.mark.parametrize("rule", [ROUTER, {**PONDER, "min_steps": 2}], ids=["router", "wrapped"])
def test_the_model_is_as_it_was(tmp_path, rule):
    run = small_run(tmp_path, halting=rule, loop={"max_steps": 3})
    run.model.train()
    run.model.coda.eval()
    for number, parameter in enumerate(run.model.parameters()):
        parameter.grad = torch.full_like(parameter, 2.0) if number % 2 else None
    before = state(run)
    figures = profile(run, "test", 1, 1)
    assert state(run) == before
    assert figures["training"]["mean_steps"] >= figures["inference"]["mean_steps"]


def test_the_model_is_as_it_was_when_something_fails(tmp_path):
    run = small_run(tmp_path, halting=ROUTER)
    before = state(run)

    def fail() -> None:
        with unchanged(run.model):
            work = Workload(run, run.task.batch("test", 0, 4))
            work.backward = lambda loss: 1 / 0
            work.trace(TimedCase(True, Exit("fixed:2", 2), "dense"))

    with pytest.raises(ZeroDivisionError):
        fail()
    assert state(run) == before


def test_sizes_are_doubled_up_to_the_largest():
    assert sizes(1) == [1] and sizes(8) == [1, 2, 4, 8] and sizes(11) == [1, 2, 4, 8, 11]


@pytest.mark.parametrize(
    ("ratios", "pays"),
    [
        ([0.9, 0.8, 0.7], 1),
        ([1.1, 0.9, 0.8], 2),
        ([0.9, 1.0, 0.8], 4),
        ([0.9, 0.8, 1.0], None),
        ([1.2, 1.1, 1.0], None),
    ],
)
def test_packing_pays_from_where_it_stays_faster(ratios, pays):
    assert pays_from(list(zip((1, 2, 4), ratios, strict=True))) == pays


def test_the_threshold_of_auto_is_where_the_recurrence_changes_its_mind(tmp_path):
    run = small_run(tmp_path)
    recurrence = run.model.recurrence
    with unchanged(run.model):
        found = break_even(run, run.task.batch("test", 0, 2), 1)
        trains, infers = found["auto_packs_from"]["training"], found["auto_packs_from"]["inference"]
        recurrence.path = "auto"
        assert recurrence.packs(trains) and not recurrence.packs(trains - 1)
        with torch.no_grad():
            assert infers == 1 and recurrence.packs(1)
    assert [row["batch_size"] for row in found["rows"]] == [1, 2]
    for row in found["rows"]:
        assert row["tokens"] == 6 * row["batch_size"]
        assert row["training"]["auto"] == ("packed" if row["tokens"] >= trains else "dense")
        assert all(row[name]["ratio"] == row[name]["packed"] / row[name]["dense"] for name in MODES)
    never: Any = SimpleNamespace(path="auto", packs=lambda tokens: False)
    assert auto_packs_from(never, True) is None


def test_contestants_take_turns_and_the_first_round_does_not_count():
    order = []

    def contestant(name: str, seconds: list[float]):
        return lambda: order.append(name) or seconds.pop(0)

    assert race([contestant("a", [9, 1, 5, 3]), contestant("b", [0, 4, 4, 7])], 3) == [3, 4]
    assert order == ["a", "b"] * 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run."""
    output = tmp_path_factory.mktemp("profile")
    assert train(small(output, name="run", updates=2)) == 0
    return output / "run"


def test_the_command_prints_what_it_writes(finished, tmp_path, capsys):
    told = tmp_path / "deep" / "p.json"
    assert (
        main(["profile", str(finished), "--batch-size", "2", "--repeats", "1", "--json", str(told)])
        == 0
    )
    out, figures = capsys.readouterr().out, json.loads(told.read_text())
    assert profile_text(figures) in out and f"wrote {told}" in out
    assert max(map(len, profile_text(figures).splitlines()[1:])) <= 120
    assert (figures["batch_size"], figures["tokens"], figures["length"], figures["repeats"]) == (
        2,
        12,
        6,
        1,
    )
    for name in MODES:
        found = figures[name]
        assert found["computed_over_counted"] == 1 and sum(
            found["shares"].values()
        ) == pytest.approx(1)
        assert found["computed_flops_per_token"] >= found["executed_flops_per_token"] > 0
        assert (
            found["tokens_per_second"] == 12 / found["seconds"]
            and f"{found['mean_steps']:.2f}" in out
        )
    learned, *fixed = figures["fixed_depth"]
    assert (
        learned["exit"] == "learned"
        and learned["inference"]["mean_steps"] == figures["inference"]["mean_steps"]
    )
    assert fixed[-1]["depth"] == 4 and len(fixed) in (1, 2)
    assert all(row[name]["mean_steps"] == row["depth"] for row in fixed for name in MODES)
    assert (
        figures["fixed_depth"][0]["training"]["flops_per_token"]
        == figures["training"]["computed_flops_per_token"]
    )
    assert [row["batch_size"] for row in figures["break_even"]["rows"]] == [1, 2]
    assert "--loop.path auto falls back to dense below" in out and "packs at any size" in out
    assert "torch counts otherwise" not in out
    figures["training"]["computed_over_counted"] = 1.02
    assert "torch counts otherwise" in profile_text(figures), (
        "where the formula misses, that is said"
    )
    figures["training"]["seconds"] = figures["fixed_depth"][0]["training"]["seconds"] = 1.1203
    assert profile_text(figures).count("1,120") == 2 and "e+0" not in profile_text(figures)


def test_the_batch_is_the_runs_own_unless_told(finished, monkeypatch):
    asked = {}

    def spy(run, split, batch_size, repeats):
        asked.update(split=split, batch_size=batch_size, repeats=repeats)
        raise UsageError("a", "b", "c")

    monkeypatch.setattr("training.cli.profile_run.profile", spy)
    assert main(["profile", str(finished)]) == 2 and asked == {
        "split": "test",
        "batch_size": 8,
        "repeats": 5,
    }
    assert main(["profile", str(finished), "--split", "train", "--batch-size", "3"]) == 2
    assert asked == {"split": "train", "batch_size": 3, "repeats": 5}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--batch-size", "0"], "--batch-size is 0."),
        (["--repeats", "-1"], "--repeats is -1."),
        (["--json", "taken.json"], "taken.json exists already."),
        (["--split", "all"], "all"),
    ],
)
def test_bad_input_is_refused_before_work_starts(
    finished, given, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.json").write_text("mine")
    monkeypatch.setattr(
        "training.cli.profile_run.load_run", lambda folder: pytest.fail("work has started")
    )
    assert main(["profile", str(finished), *given]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "taken.json").read_text() == "mine"


def test_a_folder_without_a_run_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["profile", "nowhere"]) == 2
    assert "nowhere is not a run folder" in capsys.readouterr().err
    assert main(["profile"]) == 2
    assert "There is no run in runs" in capsys.readouterr().err


def test_a_block_that_cannot_pack_is_not_compared(finished):
    run = load_run(finished)
    run.model.recurrence.block.packable = False
    figures = profile(run, "test", 1, 1)
    assert figures["break_even"] is None and figures["training"]["path"] == "dense"
    assert "there is no packed path to compare" in profile_text(figures)
