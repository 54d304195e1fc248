"""Weights are read only as they were written: a flipped bit is refused by name, wherever it is
read; and every verb reads RUN@best and an export."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_runs import small, train_only

from halting import UsageError
from training import load_run
from training.checkpoints import checkpoint, manifest
from training.checkpoints.random_state import read_random_state
from training.cli import (
    ablate,
    calibrate,
    compare,
    evaluate,
    export,
    profile_run,
    report,
    serve,
    show,
)
from training.recipes.load import load_config
from training.runs.loaded import newest_run
from training.start import train
from training.train import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("verified")
    assert train(small(output, name="run", best_by="loss", keep_last=9)) == 0
    return output / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def flipped(path: Path) -> Path:
    whole = bytearray(path.read_bytes())
    whole[-40] ^= 4
    path.write_bytes(whole)
    return path


def served(given: str) -> None:
    serve.open_server(load_run(given), serve.Options(given, port=0)).server_close()


EXAMPLES = ["--examples", "16", "--batch-size", "16"]
READERS: dict[str, Callable[[str], object]] = {
    "load_run": load_run,
    "eval": lambda given: evaluate.main([given, *EXAMPLES]),
    "export": lambda given: export.main([given, "--output", f"{given}-exported"]),
    "show": lambda given: show.main([given, "--split", "test"]),
    "compare": lambda given: compare.main([given, given]),
    "ablate": lambda given: ablate.main([given, "--steps", "1"]),
    "profile": lambda given: profile_run.main([given, "--repeats", "1", "--batch-size", "4"]),
    "serve": served,
    "report": lambda given: report.main(
        [given, *EXAMPLES, "--points", "2", "--repeats", "1", "--exit", "confidence"]
    ),
    "calibrate": lambda given: calibrate.main(
        [given, "--examples", "64", "--risk", "0.2", "--confidence", "0.8"]
    ),
    "--start-from": lambda given: train_only(
        small(Path(given).parent, name="next", updates=1, start_from=given)
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_flipped_bit_is_refused_by_name(run: Path, reader: str) -> None:
    victims = {
        str(run): flipped(run / "final" / "model.safetensors"),
        f"{run}@4": flipped(run / "checkpoints" / "update-000004" / "model.safetensors"),
    }
    for given, victim in victims.items():
        with pytest.raises(UsageError) as error:
            READERS[reader](given)
        assert str(victim) in error.value.what and "checksum differs" in error.value.what
    assert not (run.parent / "next").exists() and not list(run.glob("export*"))


@pytest.mark.parametrize("reader", READERS)
def test_the_best_checkpoint_is_read(run: Path, reader: str) -> None:
    READERS[reader](f"{run}@best")


def test_what_is_said_of_a_checkpoint_names_it(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = load_run(f"{run}@best").path
    assert best.startswith(f"{run}@") and load_run(run).path == str(run)
    assert load_run(best).weights == load_run(f"{run}@best").weights
    READERS["calibrate"](f"{run}@best")
    (command,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")
    ]
    words = command.removeprefix("next: ponder eval ").split()
    assert words[0] == best
    assert evaluate.main([*words, *EXAMPLES]) == 0
    assert f"{best}, test split" in capsys.readouterr().out
    for given in (str(run), f"{run}@best"):
        READERS["report"](given)
    update = checkpoint.update_of(load_run(best).weights.parent)
    assert (run / f"halting_report-update-{update:06d}.md").is_file()
    assert (run / "halting_report.md").is_file()


def test_an_export_is_read_like_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([str(run)]) == 0
    folder = run / "export"
    exported = load_run(folder)
    assert exported.weights == folder / "model.safetensors" and exported.summary is None
    wanted = load_run(run).model.state_dict()
    assert all(
        torch.equal(wanted[name], each) for name, each in exported.model.state_dict().items()
    )
    assert manifest.damage(folder) == []
    for reader in READERS.values():
        reader(str(folder))
    flipped(folder / "model.safetensors")
    with pytest.raises(UsageError, match=r"export/model\.safetensors is damaged"):
        load_run(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "has no manifest.json"),
        ("{", "cannot be read"),
        ('{"version": 1, "files": {}}', "does not name it"),
        ('{"version": 1, "files": {"../../x": [1, "%s"]}}' % ("0" * 64), "cannot be read"),
        ('{"version": 1, "files": {"model.safetensors": [-1, 3]}}', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_weights_without_a_sound_manifest_are_refused(run: Path, text: str, says: str) -> None:
    place = run / "final" / manifest.FILE
    place.unlink() if text is None else place.write_text(text)
    with pytest.raises(UsageError, match="cannot be trusted") as error:
        load_run(run)
    assert says in error.value.what


def test_final_weights_are_written_anew_and_what_stands_beside_them_stays(run: Path) -> None:
    (run / "final" / "guarantee.json").write_text("{}")
    flipped(run / "final" / "model.safetensors")
    assert main(["--resume", str(run)]) == 0
    assert manifest.damage(run / "final") == [] and load_run(run).summary is not None
    assert (run / "final" / "guarantee.json").read_text() == "{}"
    assert not list(run.glob(".*"))


def test_a_checkpoint_without_its_manifest_is_told_of(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = run / "checkpoints" / "update-000012"
    (newest / manifest.FILE).unlink()
    with pytest.raises(UsageError, match=r"update-000012 has no manifest\.json"):
        load_run(f"{run}@12")
    shutil.rmtree(run / "final")
    assert load_run(run).weights.parent.name == "update-000010"
    assert f"passed over: {newest}" in capsys.readouterr().err
    assert main(["--resume", str(run)]) == 0
    said = capsys.readouterr().out
    assert f"passed over: {newest}: its manifest.json is missing" in said
    assert "going on after update 10" in said


@pytest.mark.parametrize("text", ["", "{", "[]", '{"update": "x"}', '{"mean_steps": 3}'])
def test_a_progress_that_cannot_be_read_is_no_traceback(run: Path, text: str) -> None:
    """Even where a manifest vouches for it."""
    for kept in checkpoint.found(run / "checkpoints"):
        (kept / "progress.json").write_text(text)
    checkpoint.last_good(run / "checkpoints")
    with pytest.raises(UsageError, match="no best checkpoint"):
        load_run(f"{run}@best")
    for kept in checkpoint.found(run / "checkpoints"):
        manifest.write(kept)
    with pytest.raises(UsageError, match=r"progress\.json cannot be read"):
        main(["--resume", str(run)])


class Payload:
    """What a pickle would run."""

    def __reduce__(self):
        return (print, ("executed",))


def test_a_random_state_runs_and_unpacks_nothing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = run / "checkpoints" / "update-000012"
    place = newest / "random-0000.pt"
    whole = place.read_bytes()
    torch.save({"torch": Payload()}, place)
    manifest.write(newest)
    with pytest.raises(UsageError, match="holds no state of random generators") as error:
        main(["--resume", str(run)])
    assert "weights_only" not in str(error.value) and "executed" not in capsys.readouterr().out
    torch.save({"torch": torch.zeros(1 << 21)}, place)
    with pytest.raises(UsageError, match="unpacks to"):
        read_random_state(place)
    for damage in (b"", whole[: len(whole) // 2], b"\x80\x04N."):
        place.write_bytes(damage)
        with pytest.raises(UsageError, match="no state of random generators"):
            read_random_state(place)
    torch.save([1], place)
    with pytest.raises(UsageError, match="no state of random generators"):
        read_random_state(place)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_summary_that_cannot_be_read_is_named(run: Path, text: str) -> None:
    (run / "summary.json").write_text(text)
    with pytest.raises(UsageError, match=r"summary\.json cannot be read"):
        _ = load_run(run).summary


def test_the_newest_run_is_one_that_has_weights(run: Path) -> None:
    output = run.parent
    for name in ("empty", "later"):
        (output / name).mkdir()
        (output / name / "config.json").write_text((run / "config.json").read_text())
    assert newest_run(output) == run
    shutil.rmtree(run)
    with pytest.raises(UsageError, match="no run with weights") as error:
        newest_run(output)
    assert error.value.why == "2 came to no checkpoint."
    assert json.loads((output / "empty" / "config.json").read_text())


@pytest.mark.parametrize("name", ["width", "num_layers", "prelude_layers"])
def test_a_config_of_a_model_that_is_not_there_is_not_built(run: Path, name: str) -> None:
    config = json.loads((run / "config.json").read_text())
    config["model"]["options"][name] = 10**12
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=f"the model's {name} is 1,000,000,000,000"):
        load_run(run)


@pytest.mark.parametrize("text", ["[" * 99_999, '{"a":' * 5_000, "", "null", "\xff"])
def test_a_config_that_cannot_be_read_is_refused(run: Path, text: str) -> None:
    (run / "config.json").write_bytes(text.encode("latin-1"))
    for read in (load_run, lambda given: load_config(given / "config.json")):
        with pytest.raises(UsageError):
            read(run)
