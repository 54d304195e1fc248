"""Somebody's run folder runs nothing: code outside of installed packages waits for --trust-code,
unless this user has trained with it, at the same place, as it stands."""

import importlib.util
import json
import os
import py_compile
import sys
from pathlib import Path

import pytest
from small_runs import small, train_only

from halting import UsageError
from training import fit, load_run
from training.cli.main import main
from training.config import code_trust
from training.config.code_trust import files_of, module_files, take_flag
from training.recipes.load import load_config

RULE = """
from pathlib import Path
from halting import GravesACT

with (Path(__file__).parent / "ran").open("a") as file:
    file.write("x")


class Mine(GravesACT):
    pass


def recipe():
    from training.config.run_config import RunConfig

    return RunConfig(recipe="x", data={"kind": "Parity"})
"""
NAMES = iter(f"strangers_rule_{number}" for number in range(99))


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has trained nothing yet, in a folder of this test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rule(tmp_path: Path) -> Path:
    """A file that leaves a mark when it runs."""
    path = tmp_path / f"{next(NAMES)}.py"
    path.write_text(RULE)
    return path


def ran(rule: Path) -> int:
    """How often a file ran."""
    mark = rule.parent / "ran"
    return len(mark.read_text()) if mark.exists() else 0


def strangers(tmp_path: Path, part: str, spec: str) -> Path:
    """A run folder whose config names code in one of its parts."""
    folder = tmp_path / "theirs"
    assert train_only(small(tmp_path, name="theirs", updates=1)) == 0
    config = json.loads((folder / "config.json").read_text())
    if part == "block":
        config["model"]["block"] = spec
    else:
        config[part] = {**(config[part] or {}), "kind": spec}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


READERS = {
    "load_run": lambda run: load_run(run),
    "fit": lambda run: fit(resume=run),
    "--config": lambda run: load_config(run / "config.json"),
    "--start-from": lambda run: train_only(small(run.parent, name="next", start_from=str(run))),
    "teacher": lambda run: train_only(
        small(
            run.parent,
            name="next",
            objective={"kind": "Distillation", "options": {"teacher": str(run)}},
        )
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_reading_a_strangers_run_runs_nothing(tmp_path: Path, rule: Path, reader: str) -> None:
    folder = strangers(tmp_path, "halting", f"{rule}:Mine")
    with pytest.raises(UsageError, match="names code outside of installed packages") as error:
        READERS[reader](folder)
    assert ran(rule) == 0 and str(rule) in error.value.why and "--trust-code" in error.value.write
    assert "none that you trained with" in error.value.why


@pytest.mark.parametrize(
    "part", ["halting", "readout", "cost", "data", "model", "block", "objective", "optimizer"]
)
def test_no_part_is_imported(tmp_path: Path, rule: Path, part: str) -> None:
    folder = strangers(tmp_path, part, f"{rule}:Mine")
    with pytest.raises(UsageError, match="names code outside of installed packages"):
        load_run(folder)
    assert ran(rule) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "RUN", "--examples", "4"),
        ("show", "RUN", "--split", "test"),
        ("export", "RUN"),
        ("compare", "RUN", "RUN"),
        ("profile", "RUN"),
        ("serve", "RUN", "--port", "0"),
        ("train", "--resume", "RUN"),
        ("train", "--config", "RUN/config.json", "--dry-run"),
        ("launch", "--", "--num_gpus", "1", "--module", "training.train", "--resume", "RUN"),
    ],
    ids=lambda words: words[0],
)
def test_no_verb_runs_it(
    tmp_path: Path, rule: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = strangers(tmp_path, "halting", f"{rule}:Mine")
    capsys.readouterr()
    assert main([word.replace("RUN", str(folder)) for word in words]) == 2
    said = capsys.readouterr().err
    assert "names code outside of installed packages" in said and "Traceback" not in said
    assert ran(rule) == 0


def test_a_module_beside_is_no_installed_one(tmp_path: Path, rule: Path) -> None:
    """Nor does naming a package in the current folder run its __init__."""
    package = tmp_path / "strangers_package"
    package.mkdir()
    (package / "__init__.py").write_text(RULE)
    (package / "below.py").write_text("class Mine: pass")
    for spec in (f"{rule.stem}:Mine", "strangers_package.below:Mine"):
        folder = strangers(tmp_path / spec.partition(":")[0], "halting", spec)
        with pytest.raises(UsageError, match="names code outside of installed packages"):
            load_run(folder)
    assert ran(rule) == 0 and not (package / "ran").exists()
    both = [package / "__init__.py", package / "below.py"]
    assert files_of("strangers_package.below:Mine") == both


def test_with_the_flag_it_runs(
    tmp_path: Path, rule: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = strangers(tmp_path, "halting", f"{rule}:Mine")
    assert main(["eval", str(folder), "--trust-code", "--examples", "4"]) == 0
    assert ran(rule) == 1
    assert type(load_run(folder, trust_code=True).model.recurrence.rule).__name__ == "Mine"
    with pytest.raises(UsageError, match="names code outside of installed packages"):
        load_run(folder)
    words = ["train", "--config", f"{folder}/config.json", "--name", "again", "--dry-run"]
    assert main([*words, "--trust-code"]) == 0
    assert "parameters" in capsys.readouterr().out


def test_ones_own_runs_just_open_until_the_file_changes(tmp_path: Path, rule: Path) -> None:
    assert (
        train_only(small(tmp_path, name="mine", updates=1, halting={"kind": f"{rule}:Mine"})) == 0
    )
    record = json.loads(next((tmp_path / "state/ponderloop/trusted-code").iterdir()).read_text())
    assert record["file"] == str(rule)
    assert load_run(tmp_path / "mine").config.halting.kind == f"{rule}:Mine"
    assert main(["eval", str(tmp_path / "mine"), "--examples", "4"]) == 0
    # The same text at another place is somebody else's.
    other = tmp_path / "elsewhere" / rule.name
    other.parent.mkdir()
    other.write_text(RULE)
    folder = strangers(tmp_path, "halting", f"{other}:Mine")
    with pytest.raises(UsageError, match="names code outside"):
        load_run(folder)
    rule.write_text(RULE + "\n# other bytes\n")
    with pytest.raises(UsageError, match="has changed since you trained with it"):
        load_run(tmp_path / "mine")
    assert load_run(tmp_path / "mine", trust_code=True).config.halting.kind == f"{rule}:Mine"


def test_a_compiled_form_beside_the_file_is_not_what_runs(tmp_path: Path, rule: Path) -> None:
    """Who trusts a file has read its text."""
    source = rule.read_text()
    rule.write_text("raise RuntimeError('the compiled form ran')".ljust(len(source)))
    compiled = Path(importlib.util.cache_from_source(str(rule)))
    py_compile.compile(str(rule), cfile=str(compiled), doraise=True)
    time = rule.stat().st_mtime
    rule.write_text(source)
    os.utime(rule, (time, time))
    folder = strangers(tmp_path, "halting", f"{rule}:Mine")
    assert load_run(folder, trust_code=True) and ran(rule) == 1


def test_without_a_state_directory_training_goes_on(
    tmp_path: Path, rule: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert (
        train_only(small(tmp_path, name="mine", updates=1, halting={"kind": f"{rule}:Mine"})) == 0
    )
    with pytest.raises(UsageError, match="names code outside"):
        load_run(tmp_path / "mine")


@pytest.mark.parametrize("name", ["json", "sys", "torch.nn", "halting.rules.graves_act", "no_such"])
def test_installed_modules_are_free(name: str) -> None:
    assert module_files(name) == []


def test_the_flag_is_taken_out_of_the_words() -> None:
    assert take_flag(["a", "--trust-code", "b"]) == (["a", "b"], True)
    assert take_flag(["--trust_code"]) == ([], True) and take_flag(["a"]) == (["a"], False)
    with code_trust.trusting(False):
        assert take_flag([]) == ([], False)
