"""`ponder show --open` names its page by the folder, whatever the map in it says."""

import json
import shutil
import webbrowser
from pathlib import Path

import pytest
from small_runs import small

from halting import UsageError
from training.cli import show
from training.start import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("opened")
    assert train(small(output, name="run", updates=2)) == 0
    return output / "run"


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, two floors down, with a run whose map gives itself another name."""
    here = tmp_path / "a" / "here"
    here.mkdir(parents=True)
    shutil.copytree(trained, here / "run")
    record = json.loads((here / "run" / "ponder_map.json").read_text())
    record["metadata"]["run"] = "../../victim"
    (here / "run" / "ponder_map.json").write_text(json.dumps(record))
    (tmp_path / "victim.html").write_text("mine")
    monkeypatch.chdir(here)
    monkeypatch.setattr(webbrowser, "open", lambda address: True)
    return here


def test_the_page_has_the_folders_own_name(place: Path) -> None:
    for given, name in (("run", "run"), ("run@2", "run@2"), (str(place / "run") + "/", "run")):
        assert show.main([given, "--open"]) == 0
        assert (place / f"{name}.html").is_file()
    assert (place.parent.parent / "victim.html").read_text() == "mine"
    assert {path.name for path in place.iterdir()} == {"run", "run.html", "run@2.html"}


def test_a_page_is_made_again_and_nothing_else_is_overwritten(place: Path) -> None:
    (place / "run.html").write_text("mine")
    with pytest.raises(UsageError, match=r"run\.html exists already"):
        show.main(["run", "--open"])
    assert (place / "run.html").read_text() == "mine"
    assert show.main(["run", "--open", "--overwrite"]) == 0
    assert show.main(["run", "--open"]) == 0, "it is a page of ours"
    assert show.main(["run", "--json", "out.json"]) == 0
    with pytest.raises(UsageError, match=r"out\.json exists already"):
        show.main(["run", "--json", "out.json"])
    assert show.main(["run", "--json", "out.json", "--overwrite"]) == 0
