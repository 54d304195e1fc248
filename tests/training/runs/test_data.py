"""A run and its data: other files than it was trained on are refused wherever they are read, and
none are needed where none are read."""

import importlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from small_runs import small, stands_at, train_only

from halting import UsageError
from training.checkpoints import checkpoint
from training.cli.train_request import read_request
from training.config.run_config import RunConfig
from training.objectives import CrossEntropy
from training.runs.data_file import DATA, read_data
from training.runs.loaded import load_run, read_config
from training.serving.server import example_text, own_examples
from training.start import train_run
from training.tasks.corpus import read_corpus
from training.tasks.data_identity import DataIdentity
from training.tasks.parity import Parity
from training.train import main

OF_TEXT = {"text": "corpus", "length": 6}


def config_of(output: Path, **changes) -> RunConfig:
    """Four updates on a corpus in the working folder."""
    of_text = {"data": {"kind": "TextBytes", "options": OF_TEXT}, "recipe": "bytes"}
    short = {"updates": 4, "save_every": 2, "eval_every": 2, "name": "run", "threads": 1}
    return small(output, **{**of_text, **short, "penalty": {"value": 0.01}, **changes})


@dataclass(frozen=True)
class Trained:
    """A run, and the corpus that it was trained on."""

    folder: Path
    corpus: Path

    def change(self) -> None:
        path = self.corpus / "b.txt"
        path.write_text(path.read_text().replace("some", "Some", 1))

    def go_on(self, resume: str | Path | None = None, **changes) -> None:
        where = Path(resume or self.folder)
        config = read_config(self.folder).replace(updates=6)
        train_run(config, where, finishing=lambda trained: None, **changes)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run was trained; its config named the corpus by a relative path."""
    home = tmp_path_factory.mktemp("data")
    (home / "corpus").mkdir()
    for name in "ab":
        (home / "corpus" / f"{name}.txt").write_text(f"{name}: some text to read. " * 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert train_only(config_of(Path("runs"))) == 0
    return home


@pytest.fixture
def trained(once: Path, tmp_path: Path) -> Trained:
    """A copy of both, for a test to change; the working folder is another one."""
    home = shutil.copytree(once, tmp_path / "copy")
    path = home / "runs" / "run" / "config.json"
    path.write_text(path.read_text().replace(str(once), str(home)))
    return Trained(home / "runs" / "run", home / "corpus")


def test_a_run_keeps_what_it_read_and_paths_from_anywhere(once: Path):
    folder = once / "runs" / "run"
    assert read_config(folder).data.options["text"] == str(once / "corpus")
    kept = read_data(folder)
    assert kept is not None and kept.kind == "TextBytes" and kept.identity is not None
    assert set(kept.identity.files) == {"a.txt", "b.txt"}
    assert kept.identity.place == str(once / "corpus")
    assert stands_at(folder)["data"] == kept.identity.digest


def test_a_run_goes_on_from_another_working_folder_with_a_copy(trained: Trained):
    trained.go_on()
    assert stands_at(trained.folder)["update"] == 6
    assert not list(trained.folder.glob("data.before*"))


def test_a_changed_corpus_is_refused_or_allowed_when_a_run_goes_on(trained: Trained):
    before = stands_at(trained.folder)
    trained.change()
    with pytest.raises(UsageError, match=r"b\.txt has changed: it is \w{16} \(.* was \w{16} \("):
        trained.go_on()
    assert stands_at(trained.folder) == before
    trained.go_on(allow_changed_data=True)
    after = stands_at(trained.folder)
    assert after["update"] == 6 and after["data"] != before["data"]
    earlier = json.loads((trained.folder / "data.before-update-000004.json").read_text())
    assert earlier["identity"]["digest"] == before["data"]
    trained.go_on()  # the change is the run's own now
    with pytest.raises(UsageError, match=before["data"]):
        trained.go_on(f"{trained.folder}@4")
    assert stands_at(trained.folder)["update"] == 6  # nothing was set aside
    trained.go_on(f"{trained.folder}@4", allow_changed_data=True)
    assert (trained.folder / "set-aside-001" / DATA).is_file()


VERBS = {
    "evaluate": ["--examples", "8"],
    "ablate": ["--steps", "1", "--examples", "8"],
    "calibrate": [],
    "profile_run": [],
    "report": ["--examples", "64"],
    "show": ["--split", "validation"],
    "compare": ["{run}"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_examples_of_a_changed_corpus_are_refused_by_every_verb(trained: Trained, verb: str):
    trained.change()
    words = [str(trained.folder), *(word.format(run=trained.folder) for word in VERBS[verb])]
    with pytest.raises(UsageError, match=r"corpus/b\.txt has changed") as refused:
        importlib.import_module(f"training.cli.{verb}").main(words)
    assert "--allow-changed-data" in refused.value.write
    if verb in ("evaluate", "show", "compare"):  # the others take long
        main = importlib.import_module(f"training.cli.{verb}").main
        assert main([*words, "--allow-changed-data"]) == 0


def test_a_typed_text_needs_no_corpus(trained: Trained, capsys, tmp_path: Path):
    task = load_run(trained.folder).task
    example = task.batch("test", 0, 2)
    shutil.rmtree(trained.corpus)
    run = load_run(trained.folder)
    assert run.ponder_map("some").num_sequences == 1
    assert run.forward(example).logits.isfinite().all()
    show = importlib.import_module("training.cli.show").main
    picture = tmp_path / "map.png"
    assert show([str(trained.folder), "--text", "some", "--png", str(picture)]) == 0
    assert picture.is_file()
    assert example_text(run) == "" and own_examples(run).num_sequences > 0
    with pytest.raises(UsageError, match="cannot be found"):
        run.task.batch("test", 0, 1)


def test_a_kept_map_is_shown_without_a_corpus(trained: Trained, capsys, tmp_path: Path):
    run = load_run(trained.folder)
    run.ponder_map(run.task.batch("test", 0, 4)).save(trained.folder / "ponder_map")
    shutil.rmtree(trained.corpus)
    show = importlib.import_module("training.cli.show").main
    assert show([str(trained.folder), "--png", str(tmp_path / "map.png")]) == 0
    assert show([str(trained.folder), "--aggregates"]) == 0
    assert capsys.readouterr().err.count("left out what takes the run's own examples") == 2


def test_a_run_from_before_there_was_a_data_file_is_read(trained: Trained):
    (trained.folder / DATA).unlink()
    path = checkpoint.found(trained.folder / "checkpoints")[-1] / "progress.json"
    assert "data" in json.loads(path.read_text())
    trained.change()
    assert load_run(trained.folder).task.batch("test", 0, 1).tokens.shape == (1, 6)
    trained.go_on()
    assert (trained.folder / DATA).is_file()


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"kind": "a", "identity": 3, "vocabulary": 0}'])
def test_a_damaged_data_file_is_named(trained: Trained, text: str):
    (trained.folder / DATA).write_text(text)
    with pytest.raises(UsageError, match=r"data\.json"):
        load_run(trained.folder)


def test_a_dry_run_of_a_run_that_goes_on_compares_too(trained: Trained, capsys):
    trained.change()
    words = ["--resume", str(trained.folder), "--dry-run"]
    with pytest.raises(UsageError, match="has changed"):
        main(words)
    assert main([*words, "--allow-changed-data"]) == 0
    assert "data       read 2 texts" in capsys.readouterr().out


def test_the_flag_comes_with_a_run_that_goes_on(trained: Trained):
    request = read_request(["--resume", str(trained.folder), "--allow-changed-data"])
    assert request.allow_changed_data
    assert not read_request(["--resume", str(trained.folder)]).allow_changed_data
    with pytest.raises(UsageError, match="comes without --resume"):
        read_request(["bytes", "--allow-changed-data"])


class OwnFile(Parity):
    """A task of one's own that reads a file and says so."""

    path_options = ("file",)

    def __init__(self, file: str, length: int = 6, seed: int = 0):
        super().__init__(length, seed=seed)
        self.read = read_corpus(file, 1).identity

    def identity(self) -> DataIdentity:
        return self.read


def test_a_task_of_ones_own_says_what_it_reads(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.txt"
    path.write_text("own " * 30)
    data = {"kind": f"{__file__}:OwnFile", "options": {"file": "own.txt"}}
    assert (
        train_only(config_of(tmp_path, data=data, objective={"kind": CrossEntropy.__name__})) == 0
    )
    assert read_config(tmp_path / "run").data.options["file"] == str(path)
    batch = load_run(tmp_path / "run").task.batch("test", 0, 2)
    path.write_text("Own " * 30)
    with pytest.raises(UsageError, match=r"own\.txt has changed"):
        load_run(tmp_path / "run")
    changed = load_run(tmp_path / "run", allow_changed_data=True).task.batch("test", 0, 2)
    assert torch.equal(changed.tokens, batch.tokens)
