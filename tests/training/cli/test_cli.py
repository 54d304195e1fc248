"""The `ponder` command, as a person types it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from small_runs import small

from training.cli.main import VERBS, main
from training.start import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    output = tmp_path_factory.mktemp("cli")
    assert train(small(output, name="run")) == 0
    return output / "run"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_names_every_verb_and_every_verb_has_help(capsys):
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in VERBS)
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert "usage" in capsys.readouterr().out.lower()


def test_a_misspelt_verb_is_answered_with_the_one_that_was_meant(capsys):
    assert main(["tain"]) == 2
    assert "Did you mean train?" in capsys.readouterr().err


def test_bad_input_ends_with_2_and_three_parts(elsewhere, capsys):
    assert main(["show", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("error: nowhere is not a run folder.") and "why:" in said and "fix:" in said
    )


def test_without_a_run_the_newest_is_shown_and_without_any_that_is_said(elsewhere, run, capsys):
    assert main(["show"]) == 2
    assert "There is no run in runs" in capsys.readouterr().err
    assert train(small(elsewhere / "runs", name="only", updates=1)) == 0
    capsys.readouterr()
    assert main(["show"]) == 0
    assert capsys.readouterr().out.startswith("only")


def test_show_prints_the_map_and_writes_what_is_asked_for(run, elsewhere, capsys):
    assert (
        main(
            [
                "show",
                str(run),
                "--examples",
                "2",
                "--ascii",
                "--png",
                "m.png",
                "--html",
                "m.html",
                "--json",
                "m.json",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert out.isascii() and out.count("steps  ") == 2 and "wrote m.png" in out
    assert (elsewhere / "m.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (elsewhere / "m.html").read_text()
    told = json.loads((elsewhere / "m.json").read_text())
    token = told["sequences"][0][0]
    assert {"text", "steps", "mass", "difficulty", "answer", "target", "had_it_stopped"} <= set(
        token
    )
    assert sum(token["mass"]) == pytest.approx(1, abs=1e-3)
    assert main(["show", str(run), "--png", "m.png"]) == 2
    assert "m.png exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ("[]", "it holds none"),
        ('[{"label": "a", "accuracy": 1}]', "lacks compute"),
        ("{", "is not JSON"),
        (None, "No such"),
    ],
)
def test_show_refuses_a_front_that_is_none(run, elsewhere, capsys, points, says):
    if points is not None:
        (elsewhere / "front.json").write_text(points)
    assert main(["show", str(run), "--png", "m.png", "--pareto", "front.json"]) == 2
    assert says in capsys.readouterr().err and not (elsewhere / "m.png").exists()


def test_show_aggregates_a_map_as_table_picture_and_numbers(run, elsewhere, capsys):
    assert (
        main(["show", str(run), "--aggregates", "--ascii", "--png", "a.png", "--json", "a.json"])
        == 0
    )
    out = capsys.readouterr().out
    assert (
        out.isascii()
        and "overthinking" in out
        and "right had all taken 4 steps" in out
        and "hops" in out
    )
    assert (elsewhere / "a.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((elsewhere / "a.json").read_text())
    summary = json.loads(
        (run / "summary.json").read_text()
    )  # the run's 16 test examples are those of its map
    assert told["sequences"] == 16 and told["steps"]["value"] == pytest.approx(
        summary["mean_steps"]
    )
    assert told["accuracy"]["value"] == pytest.approx(summary["accuracy"])
    steps = {group["name"]: group["steps"]["value"] for group in told["by"]["difficulty"]}
    assert steps == pytest.approx(summary["steps_by_difficulty"])
    assert told["right_if_deeper"]["compute"]["value"] is not None
    assert main(["show", str(run), "--aggregates", "--text", "red →0 →1"]) == 0
    out = capsys.readouterr().out
    assert "3 tokens of 1 sequence;" in out and "underthinking" not in out


def test_compare_lays_runs_and_checkpoints_side_by_side(run, elsewhere, capsys):
    """The last checkpoint holds the final weights, so that nothing differs from it; an early one
    differs."""
    given = [str(run), f"{run}@12", f"{run}@8"]
    assert (
        main(
            [
                "compare",
                *given,
                "--examples",
                "4",
                "--png",
                "c.png",
                "--html",
                "c.html",
                "--json",
                "c.json",
                "--ascii",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert out.isascii() and "B  run@12" in out and "C  run@8" in out and "hops" in out
    assert (elsewhere / "c.png").read_bytes().startswith(b"\x89PNG")
    about = json.loads(
        (elsewhere / "c.html").read_text().partition('id="about">')[2].partition("</script>")[0]
    )
    assert [each["label"] for each in about["maps"]] == ["run", "run@12", "run@8"]
    first, same, early = json.loads((elsewhere / "c.json").read_text())["maps"]
    assert same["against_first"]["steps"]["value"] == same["against_first"]["answers"]["value"] == 0
    assert (
        same["steps"] == first["steps"] and same["answers"] == first["answers"] != early["answers"]
    )
    assert main(["compare", str(run)]) == main(["compare", str(run), f"{run}@7"]) == 2
    assert "the updates 8, 12" in capsys.readouterr().err
    assert (
        train(
            small(
                elsewhere,
                name="longer",
                updates=1,
                data={"kind": "PointerChase", "options": {"length": 7}},
            )
        )
        == 0
    )
    assert main(["compare", str(elsewhere / "longer"), str(run)]) == 2
    assert train(small(elsewhere, name="bits", updates=1, data={"kind": "Parity"})) == 0
    assert main(["compare", str(elsewhere / "bits"), str(run)]) == 2
    assert "Compare runs of one task" in capsys.readouterr().err


def test_show_thinks_about_a_typed_text_and_about_fresh_examples(run, capsys):
    assert main(["show", str(run), "--text", "red →0 →1"]) == 0
    assert "red" in capsys.readouterr().out
    assert (
        main(["show", str(run), "--split", "validation", "--examples", "1", "--max-steps", "9"])
        == 0
    )
    assert "at most 9 steps" in capsys.readouterr().out
    assert main(["show", str(run), "--text", "red", "--split", "test"]) == 2
    assert main(["show", str(run), "--split", "tset"]) == 2
    assert main(["show", str(run), "--text", "red mauve"]) == 2


def test_eval_shows_exits_side_by_side(run, elsewhere, capsys):
    assert (
        main(
            [
                "eval",
                str(run),
                "--by",
                "difficulty",
                "--exit",
                "learned",
                "fixed:2",
                "--json",
                "e.json",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "learned" in out and "fixed:2" in out and "hops" in out
    learned, fixed = json.loads((elsewhere / "e.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    assert (
        learned["accuracy"] == summary["accuracy"]
        and learned["mean_steps"] == summary["mean_steps"]
    )
    assert fixed["mean_steps"] == 2
    assert main(["eval", str(run), "--exit", "sometimes"]) == 2
    assert main(["eval", str(run), "--exit", "learned:q=0.7"]) == 2
    assert "GravesACT has no option q" in capsys.readouterr().err
    assert main(["eval", str(run), "--examples", "0"]) == 2


def test_eval_puts_exits_without_parameters_on_a_trained_run(run, elsewhere, capsys):
    exits = [
        "learned",
        "learned:epsilon=0.5",
        "fixed:2",
        "convergence:0.5",
        "convergence:kl",
        "confidence:gap:0.2",
    ]
    assert main(["eval", str(run), "--exit", *exits, "--json", "e.json"]) == 0
    out = capsys.readouterr().out
    rows = {row["exit"]: row for row in json.loads((elsewhere / "e.json").read_text())}
    assert list(rows) == exits and all(name in out for name in exits)
    assert rows["learned:epsilon=0.5"]["mean_steps"] < rows["learned"]["mean_steps"] <= 4
    assert (
        2 <= rows["convergence:0.5"]["mean_steps"] <= 4
        and 2 <= rows["convergence:kl"]["mean_steps"] <= 4
    )
    assert 1 <= rows["confidence:gap:0.2"]["mean_steps"] < 4
    assert main(["eval", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert (
        "convergence:kl:5e-4" in said and "confidence:gap:0.5" in said and "learned:q=0.7" in said
    )


def test_ablate_goes_beyond_the_trained_steps(run, elsewhere, capsys):
    assert main(["ablate", str(run), "--steps", "1", "4", "16", "--json", "a.json"]) == 0
    assert "fixed:16 *" in capsys.readouterr().out
    rows = json.loads((elsewhere / "a.json").read_text())
    assert [row["depth"] for row in rows] == [None, 1, 4, 16]
    assert [row["beyond"] for row in rows] == [False, False, False, True]
    np.testing.assert_allclose([row["stopped"]["mean_steps"] for row in rows[1:]], [1, 4, 16])
    one = rows[1]  # at one step, the readout is the state: both questions have one answer
    assert one["stopped"]["loss"] == pytest.approx(one["bare"]["loss"], rel=1e-6)
    assert main(["ablate", str(run), "--steps", "0"]) == 2


def test_recipes_are_listed_with_what_they_teach(capsys):
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("pointer_chase", "parity", "addition", "bytes", "lm_150m"))
    assert main(["recipes", "parity"]) == 2


def test_a_pipe_that_is_closed_early_is_no_error(run):
    command = f"{sys.executable} -m training.cli.main show {run} --examples 60"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -1"], capture_output=True, text=True
    )
    assert (
        done.returncode == 0 and "Traceback" not in done.stderr and done.stdout.startswith("run")
    ), done.stderr
