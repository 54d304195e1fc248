"""The words that a run's numbers stand for, where its weights go elsewhere."""

import shutil
from pathlib import Path

import pytest

from halting import UsageError
from training import load_run
from training.cli.main import main as ponder
from training.train import main

STORY = "1 Mary went to the {0}.\n2 John took box {1}.\n3 Where is Mary? \t{0}\t1\n"
SMALL = (
    *("--data.tasks", "2", "--updates", "2", "--batch-size", "4", "--eval-every", "2"),
    *("--eval-examples", "4", "--test-examples", "4", "--model.width", "16", "--quiet"),
    *("--model.num-heads", "2", "--loop.max-steps", "3"),
)


def stories(folder: Path, *places: str) -> Path:
    home = folder / "en-10k"
    home.mkdir(parents=True)
    text = "".join(STORY.format(places[number % len(places)], number) for number in range(60))
    (home / "qa2_two_train.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    data = stories(output / "babi", "kitchen", "garden", "office")
    words = ["babi", *SMALL, "--data.folder", str(data), "--output", str(output), "--name", "run"]
    assert main(words) == 0
    return output / "run"


def test_weights_of_other_words_are_refused_and_of_the_same_taken(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = stories(tmp_path / "same", "office", "kitchen", "garden")
    other = stories(tmp_path / "other", "kitchen", "garden", "attic")  # as many, not the same
    words = ["babi", *SMALL, "--start-from", str(run), "--output", str(tmp_path), "--data.folder"]
    for more in ([], ["--dry-run"]):
        with pytest.raises(UsageError, match="has another vocabulary than the data here"):
            main([*words, str(other), "--name", "astray", *more])
    assert main([*words, str(same), "--name", "fine"]) == 0


def test_an_export_knows_its_words_without_the_stories(run: Path, tmp_path: Path) -> None:
    assert ponder(["export", str(run), "--output", str(tmp_path / "export")]) == 0
    stories_of = run.parent / "babi"
    away = shutil.move(stories_of, tmp_path / "away")
    try:
        found = load_run(tmp_path / "export")
        text = "Mary went to the garden. Where is Mary?"
        assert found.task.decode(found.task.encode(text)) is not None
    finally:
        shutil.move(away, stories_of)
