"""`ponder export`, as a person types it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from small_runs import small

from training import load_run
from training.checkpoints import checkpoint
from training.cli.main import main
from training.config.run_config import RunConfig
from training.start import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    output = tmp_path_factory.mktemp("export")
    assert train(small(output, name="run", threads=1, timeout=9.0)) == 0
    return output / "run"


def test_an_export_is_the_weights_and_what_they_are_of(run, tmp_path, capsys):
    folder = tmp_path / "exported"
    assert main(["export", str(run), "--to", "safetensors", "--output", str(folder)]) == 0
    assert str(folder / "model.safetensors") in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "data.json",
        "manifest.json",
        "model.safetensors",
    ]
    wanted = load_run(run).model.state_dict()
    found = load_file(folder / "model.safetensors")
    assert set(found) == set(wanted) and all(
        torch.equal(found[name], wanted[name]) for name in wanted
    )
    config = RunConfig.from_json((folder / "config.json").read_text())
    ran = RunConfig.from_json((run / "config.json").read_text())
    assert config.model == ran.model and config.halting == ran.halting and config.seed == ran.seed
    # Where and how it was trained is not there: the bytes do not depend on it.
    assert (config.name, config.output, config.launch.threads, config.launch.timeout) == (
        None,
        "runs",
        None,
        30.0,
    )


def test_a_checkpoint_is_exported_into_a_folder_that_names_it(run):
    kept = checkpoint.found(run / "checkpoints")[0]
    assert main(["export", str(kept)]) == main(["export", str(run)]) == 0
    early, last = (
        load_file(run / name / "model.safetensors") for name in (f"export-{kept.name}", "export")
    )
    assert torch.equal(early["head.weight"], load_file(kept / "model.safetensors")["head.weight"])
    assert not torch.equal(early["head.weight"], last["head.weight"])


def test_nothing_that_exists_is_overwritten(run, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    assert main(["export", str(run), "--output", str(tmp_path / "there")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert list((tmp_path / "there").iterdir()) == []
    out = tmp_path / "out"
    assert main(["export", str(run), "--output", str(out)]) == 0
    assert main(["export", str(run), "--output", str(out)]) == 2
    assert main(["export", str(run), "--output", str(out), "--overwrite"]) == 0
    (out / "notes.txt").write_text("mine")
    assert main(["export", str(run), "--output", str(out), "--overwrite"]) == 2
    assert "holds nothing else" in capsys.readouterr().err
    assert (out / "notes.txt").read_text() == "mine"


def test_what_cannot_be_exported_leaves_nothing_behind(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["export", str(run), "--output", str(tmp_path / "file" / "out")]) == 2
    said = capsys.readouterr().err
    assert "cannot be written" in said and "fix:" in said
    broken = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("export*"))
    weights = broken / "final" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert main(["export", str(broken)]) == 2
    assert f"{weights} is damaged" in capsys.readouterr().err
    assert not list(broken.glob("*export*"))
    assert json.loads((run / "config.json").read_text())["launch"]["threads"] == 1
