"""A preparation that is killed, wherever it is, goes on and ends with the same bytes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from token_folders import files_of, prepared, texts, write_lines

from halting import UsageError
from training.data import pieces as pieces_module
from training.data import prepare as prepare_module
from training.data.splitting import Plan
from training.data.token_writer import TokenWriter

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parents[1]
DYING = """
import os, signal, sys
from pathlib import Path
from token_folders import prepared
from training.data import prepare as module, workers
left = int(sys.argv[4])
save, appear = module._Preparation._save, module.appear
def die(*given):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def dying(self, *given):
    save(self, *given)
    die()
def dying_late(*given):
    die()
    appear(*given)
module._Preparation._save = dying
module.appear = dying_late
if __name__ == "__main__":
    workers.BLOCK = 1 << 12
    prepared(Path(sys.argv[1]), sys.argv[2], tokenizer=sys.argv[3], workers=int(sys.argv[5]),
             save_seconds=0)
"""


def corpus_of(tmp_path: Path, kind: str) -> Path:
    if kind == "lines":
        return write_lines(tmp_path / "a.jsonl", [*texts(400), *texts(30)])
    path = tmp_path / "a.txt"
    path.write_text("\n".join(texts(9000, most=40)), encoding="utf-8")
    return path


def killed(tmp_path: Path, corpus: Path, tokenizer: str, at: int, workers: int = 1) -> int:
    """Prepares in a process that is killed at its `at`-th save; gives its exit code."""
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    words = [str(tmp_path / "out"), str(corpus), tokenizer, str(at), str(workers)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{TESTS}"}
    ended = subprocess.run(
        [sys.executable, str(script), *words], env=environment, check=False, capture_output=True
    )
    return ended.returncode


@pytest.mark.parametrize("kind", ["lines", "text"])
@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_killed_at_any_save_it_goes_on_to_the_same_bytes(
    tmp_path: Path, kind: str, tokenizer: str, monkeypatch: pytest.MonkeyPatch
):
    corpus = corpus_of(tmp_path, kind)
    prepared(tmp_path / "whole", corpus, tokenizer=tokenizer)
    deaths = 0
    at = 1
    while (code := killed(tmp_path, corpus, tokenizer, at)) != 0:
        assert code == -signal.SIGKILL
        deaths += 1
        at = 2 * at  # each time a few blocks further
        for file in (tmp_path / "out.unfinished").glob("*.tokens"):
            with open(file, "ab") as torn:  # what was written after the save, and not to the end
                torn.write(b"torn")
    assert deaths >= 2
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert not (tmp_path / "out.unfinished").exists()


def test_killed_with_workers_it_leaves_none_and_goes_on(tmp_path: Path):
    corpus = corpus_of(tmp_path, "lines")
    prepared(tmp_path / "whole", corpus, tokenizer="bpe:300")
    assert killed(tmp_path, corpus, "bpe:300", 2, workers=2) == -signal.SIGKILL

    def left() -> list[int]:
        found = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            with contextlib.suppress(psutil.Error):
                if str(tmp_path) in " ".join(process.info["cmdline"] or []):
                    found.append(process.pid)
        return found

    until = time.monotonic() + 30
    while left() and time.monotonic() < until:
        time.sleep(0.1)
    assert left() == []
    prepared(tmp_path / "out", corpus, tokenizer="bpe:300", workers=2)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_pieces_are_the_same_from_any_place_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where a cut of the splits falls into a piece, at its end, or between two."""
    monkeypatch.setattr("training.data.segments.SEGMENT", 1000)
    path = tmp_path / "a.txt"
    path.write_text("\n".join(texts(300)), encoding="utf-8")
    sources = prepare_module.find_sources([str(path)])
    reading = prepare_module.Reading()
    decisions = prepare_module.np.zeros(1, dtype="uint8")
    size = path.stat().st_size
    for cuts in ((1, 2), (size // 2, size // 2 + 1), (995, 1005), (size - 2, size - 1)):
        plan = Plan(cuts, 0, 0, size)
        whole = list(pieces_module.pieces(sources, reading, decisions, plan, pieces_module.Place()))
        assert b"".join(piece.text for piece in whole) == path.read_bytes()
        assert {piece.split for piece in whole if piece.text} == {0, 1, 2}
        for number, piece in enumerate(whole):
            if piece.after is not None:
                again = pieces_module.pieces(sources, reading, decisions, plan, piece.after)
                assert list(again) == whole[number + 1 :]


def test_another_command_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    corpus = corpus_of(tmp_path, "lines")
    monkeypatch.setattr(TokenWriter, "close", stop)
    with pytest.raises(Stopped):
        prepared(tmp_path / "out", corpus)
    monkeypatch.undo()
    with pytest.raises(UsageError, match=r"another command: it differs in tokenizer, shares"):
        prepared(tmp_path / "out", corpus, tokenizer="bpe:300", shares=(90, 5, 5))
    with corpus.open("a") as file:
        file.write('{"text": "one more"}\n')
    with pytest.raises(UsageError, match="has changed since"):
        prepared(tmp_path / "out", corpus)
    prepared(tmp_path / "out", corpus, overwrite=True)
    prepared(tmp_path / "whole", corpus)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_overwriting_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A killed command that replaces a folder is written again as it was."""
    corpus = corpus_of(tmp_path, "lines")
    prepared(tmp_path / "out", write_lines(tmp_path / "old.jsonl", texts(100, seed=3)))
    monkeypatch.setattr(TokenWriter, "close", stop)
    with pytest.raises(Stopped):
        prepared(tmp_path / "out", corpus, overwrite=True)
    monkeypatch.undo()
    monkeypatch.setattr(prepare_module, "scan", stop)  # it has been read already
    prepared(tmp_path / "out", corpus, overwrite=True)
    monkeypatch.undo()
    prepared(tmp_path / "whole", corpus)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_two_commands_do_not_work_in_one_folder(tmp_path: Path):
    corpus = corpus_of(tmp_path, "lines")
    work = tmp_path / "out.unfinished"
    work.mkdir()
    with prepare_module.locked(work), pytest.raises(UsageError, match="is being worked in"):
        prepared(tmp_path / "out", corpus)


class Stopped(Exception):
    pass


def stop(*given: object, **named: object) -> None:
    raise Stopped
