"""Signals, disks that fill, outputs that can't be written, and two who write into one folder."""

import contextlib
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

from benchmarks.trouble.case import Case, Ended
from benchmarks.trouble.material import SMALL, Material
from benchmarks.trouble.pools import draw

KIND = "surroundings"
_LONG = (*SMALL, "--updates", "100000", "--eval-every", "40", "--save-every", "20", "--name", "run")
"""A training that does not end by itself."""


def make(number: int, material: Material) -> Case:
    """The case of this number."""
    source = draw(number, KIND)
    makers = (_signal, _signal, _full, _output, _writers, _pipe)
    return makers[number % len(makers)](number, source, material)


def _train(*words: str) -> int:
    """`ponder train` in this process, as its entry does it."""
    from training.cli.main import main  # late: cases are made without torch
    from training.distributed.stop_request import heard_from_the_start

    with heard_from_the_start():
        return main(["train", *words])


def _whole_checkpoints(run: Path) -> list[int]:
    return sorted(
        int(path.name.rpartition("-")[2])
        for path in (run / "checkpoints").glob("update-*")
        if (path / "manifest.json").exists()
    )


def _reached(run: Path) -> int:
    """The last update that the metrics tell of."""
    last = 0
    with contextlib.suppress(OSError):
        for line in (run / "metrics.jsonl").read_text().splitlines():
            with contextlib.suppress(ValueError, KeyError):
                last = max(last, json.loads(line)["update"])
    return last


def _signal(number: int, source: random.Random, material: Material) -> Case:
    """A signal to a training, at some moment; once, twice quickly, or two kinds."""
    sent = source.choice(
        (
            (signal.SIGTERM,),
            (signal.SIGINT,),
            (signal.SIGHUP,),
            (signal.SIGTERM, signal.SIGTERM),
            (signal.SIGHUP, signal.SIGTERM),
            (signal.SIGUSR1,),
            (signal.SIGQUIT,),
        )
    )
    wait = source.choice((0.0, 0.02, 0.1, 0.3, 1.0, 2.0))
    names = "+".join(signal.Signals(each).name for each in sent)
    return Case(
        KIND,
        number,
        f"{names} {wait} s after it trains",
        rule="saved",
        run=partial(_signalled, sent=sent, wait=wait),
        check=_is_saved,
        limit=60.0,
    )


def _signalled(place: Path, sent: tuple[int, ...], wait: float) -> int:
    def send() -> None:
        run = place / "runs" / "run"
        while not (run / "metrics.jsonl").exists():
            time.sleep(0.01)
        time.sleep(wait)
        for each in sent:
            os.kill(os.getpid(), each)

    threading.Thread(target=send, daemon=True).start()
    return _train(*_LONG)


def _is_saved(place: Path, ended: Ended) -> str | None:
    if (
        ended.code is not None
        and ended.code < 0
        and -ended.code in (signal.SIGQUIT, signal.SIGUSR1)
    ):
        return None
    run = place / "runs" / "run"
    saved = _whole_checkpoints(run)
    reached = _reached(run)
    if not saved and reached:
        return f"loss: no checkpoint, at update {reached}"
    if saved and reached > saved[-1]:
        return f"loss: update {reached} was reached, {saved[-1]} is saved"
    return None


def _full(number: int, source: random.Random, material: Material) -> Case:
    """A file of the run may not grow beyond so many bytes, as on a full disk."""
    size = source.choice((0, 10, 200, 1000, 5000, 20_000, 60_000, 100_000))
    link = source.random() < 0.5
    name = source.choice(
        (
            "metrics.jsonl",
            "log.txt",
            "ponder_map.npz",
            "ponder_map.html",
            "summary.json",
            "report.md",
            "events",
        )
    )
    says = f"{name} is on a full disk" if link else f"no file may have more than {size} bytes"
    return Case(
        KIND,
        number,
        says,
        rule="kept",
        prepare=material.copy,
        run=partial(_on_full, size=None if link else size, name=name),
        check=_first_is_whole,
        limit=60.0,
    )


def _on_full(place: Path, size: int | None, name: str) -> int:
    run = place / "runs" / "base"
    if size is None:
        path = next(run.glob("events*")) if name == "events" else run / name
        with contextlib.suppress(OSError):
            path.unlink()
        path.symlink_to("/dev/full")
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        )
        sys.stdout.flush()
    return _train("--resume", "runs/base", "--updates", "40")


def _first_is_whole(place: Path, ended: Ended) -> str | None:
    run = place / "runs" / "base"
    return None if _whole_checkpoints(run) else "loss: no checkpoint is left"


def _output(number: int, source: random.Random, material: Material) -> Case:
    """An output that cannot be written."""
    target = source.choice(
        (
            "/dev/full",
            "runs",
            "missing/folder/x",
            "runs/base/config.json",
            "runs/base/config.json/x",
            "/proc/x",
            "/sys/x",
            "x" * 300,
            "readonly/x",
            "/dev/null/x",
            ".",
        )
    )
    words = source.choice(
        (
            ("show", "runs/base", "--png", target),
            ("show", "runs/base", "--html", target),
            ("show", "runs/base", "--json", target),
            ("eval", "runs/base", "--json", target),
            ("export", "runs/base", "--output", target),
            ("compare", "runs/base", "runs/base@10", "--examples", "2", "--html", target),
            ("train", *SMALL, "--output", target),
            (
                "tune",
                "parity",
                "--penalty.value",
                "0",
                "0.01",
                "--trial-budget",
                "1updates",
                "--out",
                target,
            ),
            ("calibrate", "runs/base", "--examples", "50", "--risk", "0.2", "--json", target),
            ("profile", "runs/base", "--repeats", "1", "--json", target),
        )
    )
    fine = target == "missing/folder/x"
    return Case(
        KIND,
        number,
        f"{words[0]} into {target[:40]}",
        words,
        "value" if fine or (target == "." and words[0] == "train") else None,
        prepare=partial(_with_outputs, material=material),
        check=partial(_is_unchanged, material=material),
        limit=90.0,
    )


def _with_outputs(place: Path, material: Material) -> None:
    material.copy(place)
    (place / "readonly").write_text("a file where a folder should be\n")


def _is_unchanged(place: Path, ended: Ended, material: Material) -> str | None:
    same = (place / "runs" / "base" / "config.json").read_bytes() == (
        material.run / "config.json"
    ).read_bytes()
    return None if same else "loss: config.json was overwritten"


def _writers(number: int, source: random.Random, material: Material) -> Case:
    """A second one in the folder that a first one trains in."""
    second = source.choice(
        (
            ("train", "--resume", "runs/run"),
            ("train", "--resume", "runs/run", "--updates", "30"),
            ("train", *SMALL, "--name", "run"),
            ("train", "--resume", "runs/run@20"),
            ("export", "runs/run", "--output", "out"),
            ("eval", "runs/run"),
            ("show", "runs/run", "--split", "test"),
        )
    )
    return Case(
        KIND,
        number,
        f"a second one: {' '.join(second[:3])}",
        rule="kept",
        run=partial(_with_second, second=second),
        check=partial(_alone, writes=second[0] == "train"),
        limit=90.0,
    )


def _with_second(place: Path, second: tuple[str, ...]) -> int:
    """Trains in a child, and runs the second command here while it does."""
    first = os.fork()
    if first == 0:
        with open(place / "first.txt", "wb") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        os._exit(_train(*_LONG))
    run = place / "runs" / "run"
    until = time.monotonic() + 30
    while not (run / "checkpoints" / "update-000020").exists() and time.monotonic() < until:
        time.sleep(0.02)
    from training.cli.main import main  # late, as above

    code = main(list(second))
    os.kill(first, signal.SIGTERM)
    _, status = os.waitpid(first, 0)
    print(f"the first ended with {os.waitstatus_to_exitcode(status)}", flush=True)
    return code


def _alone(place: Path, ended: Ended, writes: bool) -> str | None:
    if ended.code is None:
        return None
    if "the first ended with 0" not in ended.said:
        said = (place / "first.txt").read_text(errors="replace")[-300:]
        return f"loss: the first training was disturbed: {said}"
    if writes and ended.code == 0:
        return "loss: two trainings wrote into one folder"
    return None


def _pipe(number: int, source: random.Random, material: Material) -> Case:
    """Whoever reads the output has gone."""
    lines = source.choice((0, 1, 2, 5))
    words = source.choice(
        (
            ("train", *SMALL, "--updates", "60", "--name", "run"),
            ("train", *SMALL, "--updates", "60", "--name", "run"),
            (
                "tune",
                "parity",
                *SMALL[1:],
                "--penalty.value",
                "0",
                "0.01",
                "--trial-budget",
                "4updates",
                "--out",
                "swept",
            ),
            ("eval", "runs/base"),
            ("show", "runs/base"),
        )
    )
    if words[0] == "tune":
        words = tuple(word for word in words if word not in ("--name", "run"))
    return Case(
        KIND,
        number,
        f"{words[0]} | head -{lines}",
        rule="saved",
        prepare=material.copy,
        run=partial(_into_head, words=words, lines=lines),
        check=partial(_has_finished, verb=words[0]),
        limit=120.0,
    )


def _into_head(place: Path, words: tuple[str, ...], lines: int) -> int:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(write, 1)
        from training.cli.main import main  # late, as above

        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        code = main(list(words))
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        for _ in range(lines):
            pipe.readline()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _has_finished(place: Path, ended: Ended, verb: str) -> str | None:
    if (
        verb == "train"
        and ended.code == 0
        and not (place / "runs" / "run" / "summary.json").exists()
    ):
        return "loss: a closed pipe ended the training with 0, before its end"
    return None
