"""A sweep's parts: what is varied, the queue that several processes share, and the choice of a
point."""

import json
import multiprocessing
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from small_runs import small
from told_sweeps import FOUND, figures, measure_all, space_of, sweep_of

from halting.errors import UsageError
from training.tuning.axis import Axis
from training.tuning.chosen import chosen
from training.tuning.database import holds_study, open_study
from training.tuning.measured import bend, front, measured, pick
from training.tuning.space import label, without_overridden, words_of
from training.tuning.sweep import Claim, Sweep
from training.tuning.trial_budget import TrialBudget
from training.tuning.written_out import write_out


def claim_and_die(folder: Path) -> None:
    claim = Sweep(folder).claim()
    assert claim is not None and (claim.number, claim.point, claim.seed) == (
        1,
        {"penalty.value": "0.1"},
        0,
    )
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "name", ["why?1", "a%20b", "x#y", "a?b=c&d", "50%", "{x}", "é ü", "a'b\"c", "a:b@c", "file:x"]
)
def test_a_study_is_the_file_in_its_folder_whatever_that_is_called(tmp_path: Path, name: str):
    (tmp_path / name).mkdir()
    file = tmp_path / name / "sweep.db"
    open_study(file, begin=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in file.parent.iterdir()] == ["sweep.db"]
    assert holds_study(file) and open_study(file, begin=False).study_name == "sweep"


def test_flags_with_several_values_are_swept_and_the_others_are_for_all():
    space = space_of(
        "--penalty.value",
        "0",
        "1e-3",
        "--updates",
        "100",
        "--halting.bias-init",
        "-1",
        "-3",
        "--loop.compiled",
    )
    assert space.fixed == ("--updates", "100", "--loop.compiled") and len(space.grid()) == 4
    point = space.grid()[-1]
    assert point == {"penalty.value": "0.001", "halting.bias-init": "-3"}
    config = space.config(point)
    assert (
        config.penalty.value == 0.001
        and config.halting.options == {"bias_init": -3.0}
        and config.updates == 100
    )
    assert config.loop.compiled and label(point) == "penalty 0.001 · bias-init -3"
    switch = space_of("--loop.compiled", "True", "False", "--penalty.value", "0.1")
    assert [switch.config(point).loop.compiled for point in switch.grid()] == [True, False]
    assert words_of({"loop.compiled": "False"}) == ["--loop.no-compiled"]
    assert space_of("--penalty.value=0.1").grid() == [{"penalty.value": "0.1"}]


def test_a_flag_that_holds_a_list_is_no_grid_and_a_recipe_is_found_again_from_any_folder(
    tmp_path, monkeypatch
):
    recipe = tmp_path / "listed.py"
    recipe.write_text(
        "from training import Part, RunConfig\nfrom training.tasks import "
        "PointerChase\n"
        "class Listed(PointerChase):\n"
        "    def __init__(self, sizes: tuple[int, ...] = (1,), seed: int = 0):\n"
        "        super().__init__(6, seed=seed)\n"
        "def recipe():\n    return RunConfig(recipe='listed', data=Part(kind=__file__ + "
        "':Listed'))\n"
    )
    monkeypatch.chdir(tmp_path)
    space = space_of("--data.sizes", "3", "4", "--penalty.value", "0", "1", recipe=recipe.name)
    assert space.recipe == f"{recipe}:recipe"
    assert [axis.name for axis in space.axes] == ["penalty.value"]
    assert space.base().data.options == {"sizes": [3, 4]}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--penalty.value", "-1", "2"), "--penalty.value is -1.0"),
        (("--penalty.value", "much", "2"), "could not convert string to float: 'much'"),
        (("--loop.max-stps", "2", "3"), "Perhaps you meant"),
        (("--model.width", "64", "63"), "--model.width 63 (Block): dim 63 cannot be divided"),
        (("--halting.kind", "GravesACT", "Foo"), "there is no halting rule"),
        (("--seed", "1", "2"), "--seed stands in a sweep"),
        (("--time-limit", "3"), "--time-limit stands in a sweep"),
        (("--penalty.value", "0", "--penalty.value", "1"), "is given twice"),
        (("--penalty.value", "1..0.1"), "--penalty.value 1..0.1"),
        (("--penalty.value", "0..1:log"), "--penalty.value 0..1:log"),
        (("--penalty.value", "0..1", "2"), "--penalty.value 0..1 2"),
        (("--penalty.value", "1e-4..1e-1:ln"), "--penalty.value 1e-4..1e-1:ln."),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_made(words, says):
    with pytest.raises(UsageError) as refused:
        space_of(*words)
    assert says in refused.value.what and refused.value.why and refused.value.write


def test_ranges_and_their_ends():
    axis = Axis.read("penalty.value", ["1e-4..1e-1:log"])
    assert (axis.low, axis.high, axis.log, axis.whole) == (1e-4, 0.1, True, False)
    assert (
        Axis.read("loop.max-steps", ["2..6"]).whole
        and not Axis.read("penalty.value", ["0.0..1.0"]).whole
    )
    space = space_of("--penalty.value", "1e-4..1e-1:log", "--loop.max-steps", "4", "6")
    assert space.grid() == [] and {"penalty.value": "0.1", "loop.max-steps": "4"} in space.probes()


def test_a_budget_lays_the_whole_schedule_over_what_may_be_spent(tmp_path):
    config = small(
        tmp_path,
        updates=100,
        penalty={"value": 0.01, "warmup": 30},
        schedule={"kind": "WarmupCosine", "options": {"warmup": 10}},
    )
    fewer = TrialBudget.read("50updates").apply(config)
    assert (
        fewer.updates,
        fewer.penalty.warmup,
        fewer.schedule.options["warmup"],
        fewer.limits.stretch_to,
    ) == (
        50,
        15,
        5,
        "updates",
    )
    timed = TrialBudget.read("1.5s").apply(config)
    assert (timed.limits.time_limit, timed.limits.stretch_to, timed.updates) == (1.5, "limit", 100)
    counted = TrialBudget.read("1e12FLOPs").apply(config)
    assert (counted.limits.flops_limit, counted.limits.stretch_to) == (1e12, "limit")
    for text in ("30", "0s", "-1s", "3minutes", "s", "1.5updates", "1e3e4s", "infs"):
        with pytest.raises(UsageError, match="--trial-budget"):
            TrialBudget.read(text)


def test_a_trial_whose_process_was_killed_is_run_again_and_one_at_work_is_left_alone(tmp_path):
    sweep, _ = sweep_of(tmp_path / "s", "--penalty.value", "0", "0.1")
    assert sweep.queue(space_of("--penalty.value", "0", "0.1").grid(), range(2)) == 4
    mine = sweep.claim()
    assert mine is not None and mine.point == {"penalty.value": "0"} and mine.seed == 0
    killed = multiprocessing.get_context("fork").Process(target=claim_and_die, args=(sweep.folder,))
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert sweep.counts() == {"waiting": 2, "working": 2, "done": 0, "failed": 0}
    taken: list[Claim] = []
    while claim := sweep.claim():
        taken.append(claim)
    again = [(claim.point["penalty.value"], claim.seed) for claim in taken]
    assert sorted(again) == [("0", 1), ("0.1", 0), ("0.1", 1)]  # the dead one too, mine not
    assert sweep.counts() == {"waiting": 0, "working": 4, "done": 0, "failed": 0}
    for claim in (*taken, mine):
        sweep.finish(claim, figures(0.5, 2.0))
    assert sweep.counts() == {"waiting": 0, "working": 0, "done": 4, "failed": 0}
    assert (
        sweep.trials()[1].user_attrs["run_again"] == "its process had died"
        and sweep.trials()[1].values is None
    )
    assert sweep.queue(space_of("--penalty.value", "0", "0.1").grid(), range(2)) == 0
    assert list((sweep.folder / "trials").iterdir()) == []  # no lock is left behind


def test_a_trial_that_dies_each_time_fails_in_the_end_and_is_tried_again_when_asked(tmp_path):
    sweep, space = sweep_of(tmp_path / "s", "--penalty.value", "0.1")
    sweep.queue(space.grid(), range(1))
    for again in (True, True, False):
        claim = sweep.claim()
        assert claim is not None and sweep.give_back(claim, "killed", died=True) == again
    assert sweep.claim() is None and sweep.counts()["failed"] == 1
    for _ in range(4):  # whoever stops the sweep does not count against it
        sweep.queue(space.grid(), range(1))
        claim = sweep.claim()
        assert claim is not None and sweep.give_back(claim, "stopped", died=False)
    assert sweep.counts() == {"waiting": 1, "working": 0, "done": 0, "failed": 0}


def test_more_can_be_added_later_and_what_differs_is_refused(tmp_path):
    sweep, _ = sweep_of(tmp_path / "s", "--penalty.value", "0", "0.1")
    wider, space = sweep_of(tmp_path / "s", "--penalty.value", "0.1", "3")
    assert (
        wider.axes()["penalty.value"].words == ("0", "0.1", "3")
        and wider.axes()["penalty.value"].high == 3
    )
    assert sweep.queue(space.grid(), range(1)) == 2
    for words, says in (
        (("--penalty.value", "0", "--updates", "7"), "swept with"),
        (("--penalty.value", "0.1..0.2"), "swept here as numbers"),
        (("--penalty.value", "0", "None"), "swept here as numbers"),
    ):
        with pytest.raises(UsageError, match=says):
            sweep_of(tmp_path / "s", *words)
    assert without_overridden(["--updates", "7", "--threads", "1"], ["--updates=9"]) == (
        "--threads",
        "1",
    )
    with pytest.raises(UsageError, match="--trial-budget 5updates"):
        sweep_of(tmp_path / "s", "--penalty.value", "0", budget="6updates")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="is no sweep"):
        sweep_of(tmp_path / "other", "--penalty.value", "0")
    with pytest.raises(UsageError, match="holds no sweep"):
        Sweep(tmp_path / "nowhere").settings()


def test_a_file_that_is_no_sweep_is_said_and_left_as_it_is(tmp_path):
    sweep, _ = sweep_of(tmp_path / "s", "--penalty.value", "0", "0.1")
    whole = (sweep.folder / "sweep.db").read_bytes()
    torn = whole[: 6 * 4096] + os.urandom(3 * 4096) + whole[9 * 4096 :]
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE notes(text)")
    contents = {
        "noise": (b"no database at all" * 400, "cannot be read"),
        "cut": (whole[:50_000], "cannot be read"),
        "torn": (torn, "cannot be read"),
        "foreign": ((tmp_path / "other.db").read_bytes(), "the database of something else .notes."),
    }
    for name, (content, says) in contents.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "sweep.db").write_bytes(content)
        for act in (
            lambda folder=folder: Sweep(folder).settings(),
            lambda folder=folder: sweep_of(folder, "--penalty.value", "0"),
            lambda folder=folder: chosen(folder, "knee", "pointer_chase"),
        ):
            with pytest.raises(UsageError, match=says):
                act()
        assert [path.name for path in folder.iterdir()] == ["sweep.db"]
        assert (folder / "sweep.db").read_bytes() == content
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="No sweep can be kept in .*: Not a directory"):
        sweep_of(tmp_path / "file" / "s", "--penalty.value", "0")


def test_a_sweep_that_was_killed_before_it_had_begun_can_begin(tmp_path):
    left = tmp_path / "s"
    (left / "trials").mkdir(parents=True)
    (left / "sweep.db").touch()
    with pytest.raises(UsageError, match="holds no sweep"):
        Sweep(left).settings()
    open_study(left / "sweep.db", begin=True)
    with pytest.raises(UsageError, match="stopped before it had begun"):
        Sweep(left).settings()
    sweep, _ = sweep_of(left, "--penalty.value", "0", "0.1")
    assert sweep.settings().recipe == "pointer_chase" and Sweep(left).axes().keys() == {
        "penalty.value"
    }


def test_optunas_sampler_draws_from_ranges_and_each_setting_has_its_seeds(tmp_path):
    sweep, _ = sweep_of(
        tmp_path / "s", "--penalty.value", "1e-4..1e-1:log", "--loop.max-steps", "2..5"
    )
    drawn = []
    while claim := sweep.claim(drawn=3, seeds=(0, 1)):
        drawn.append((label(claim.point), claim.seed))
        penalty = float(claim.point["penalty.value"])
        assert 1e-4 <= penalty <= 0.1 and penalty == float(f"{penalty:.4g}")
        assert 2 <= int(claim.point["loop.max-steps"]) <= 5
        sweep.finish(claim, figures(0.5, 2.0))
    assert len(drawn) == 6 and len({name for name, _ in drawn}) == 3
    assert [seed for _, seed in drawn] == [0, 1] * 3
    trial = sweep.trials()[0]  # as Optuna's own tools see it
    assert trial.params.keys() == {"penalty.value", "loop.max-steps", "seed"} and trial.values == [
        0.5,
        2000.0,
    ]


def test_the_point_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep, space = sweep_of(Path("s"), "--penalty.value", *FOUND, "--updates", "7")
    with pytest.raises(UsageError, match="fits no point"):
        pick(measured(sweep), "knee")
    sweep.queue(space.grid(), range(2))
    measure_all(sweep, FOUND)
    settings = measured(sweep)
    assert [label(each.point) for each in front(settings)] == ["1", "0.01", "0.001", "0"]
    asked = {
        "knee": "0.01",
        "best": "0",
        "steps<=4": "0.001",
        "steps < 2.6": "0.01",
        "accuracy>=0.998": "0.001",
    }
    asked |= {"flops<=1000": "1", "steps>=4": "0"}
    assert {what: label(pick(settings, what).point) for what in asked} == asked
    assert bend(settings) is pick(settings, "knee")
    for what, says in (
        ("steps<=0.5", "fits no point"),
        ("cheap", "--pick cheap"),
        ("steps<=four", "--pick steps<=four"),
    ):
        with pytest.raises(UsageError, match=says):
            pick(settings, what)
    one = chosen(Path("s"), "knee", "pointer_chase")
    assert one.words == ("--updates", "7", "--penalty.value", "0.01") and "2 seeds" in one.says
    assert chosen(Path("s"), "knee", "pointer_chase", ["--updates=9", "--seed", "3"]).words == (
        "--penalty.value",
        "0.01",
    )
    with pytest.raises(UsageError, match="swept pointer_chase; here parity"):
        chosen(Path("s"), "knee", "parity")
    written = {path.name: path for path in write_out(sweep)}
    rows = written["trials.csv"].read_text().splitlines()
    assert len(rows) == 11 and rows[1].startswith("0,complete,0,0,0.999,")
    report = written["report.md"].read_text()
    assert "| ★ | 0.01 | 99.00% (99.00% … 99.00%) | 2.00 |" in report and "collapsed 2/2" in report
    assert "ponder train pointer_chase --from-tune s --pick knee" in report
    assert (
        "★ knee" in written["pareto.html"].read_text()
        and written["pareto.png"].stat().st_size > 10_000
    )
    assert "executed steps a token" in written["pareto.html"].read_text()
    assert json.loads(json.dumps([each.as_point("mean_steps").label for each in settings])) == list(
        FOUND
    )


def test_a_setting_that_collapsed_under_one_seed_is_marked_everywhere(
    tmp_path,
):
    sweep, space = sweep_of(tmp_path / "s", "--penalty.value", "0", "0.1", "1")
    sweep.queue(space.grid(), range(2))
    # Fewer steps, but of a model that computes more in each.
    found = {"0": (0.999, 5.0, 5000.0), "0.1": (0.99, 2.0, 3000.0), "1": (0.7, 2.5, 1000.0)}
    while claim := sweep.claim():
        accuracy, steps, flops = found[label(claim.point)]
        collapsed = claim.seed == 1 and label(claim.point) == "0.1"
        sweep.finish(claim, {**figures(accuracy, steps, collapsed), "flops_per_token": flops})
    settings = measured(sweep)
    knee = bend(settings)
    assert knee is not None and label(knee.point) == "0"  # 0.1 would be it
    written = {path.name: path.read_bytes().decode(errors="replace") for path in write_out(sweep)}
    assert "| ✗ | 0.1 |" in written["report.md"] and "collapsed 1/2" in written["report.md"]
    page = written["pareto.html"]
    assert page.count("✗ collapsed<") == 1 and "executed FLOPs a token" in page
    assert (
        page.index("<td>1</td>") < page.index("<td>0.1</td>") < page.index("<td>0</td><td>★ knee")
    )
