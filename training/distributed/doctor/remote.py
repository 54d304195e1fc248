"""Asking other machines through ssh, as `deepspeed --hostfile` starts ranks there: without a
password, in time."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

NO_FOLDER, NO_PYTHON = 94, 95
"""Exit codes: this folder, or this Python, is not there on the other machine."""


@dataclass(frozen=True)
class RemoteResult:
    """How a command ended.

    Args:
        code: ssh's own failures are 255.
        output, error: what it printed.
    """

    code: int
    output: str
    error: str


@dataclass(frozen=True)
class Remote:
    """How machines are asked.

    Args:
        port: of sshd; None for ssh's own choice.
        connect: seconds for the connection.
        limit: seconds for a command.
    """

    port: int | None = None
    connect: int = 5
    limit: float = 90.0

    def fingerprint(self, host: str) -> RemoteResult:
        """What `training.distributed.fingerprint` prints there."""
        return self._run(host, "-m", "training.distributed.fingerprint")

    def python(self, host: str, script: str, *arguments: object) -> RemoteResult:
        """Runs a few lines of Python there."""
        return self._run(host, "-c", script, *map(str, arguments))

    @contextmanager
    def listening(self, host: str, script: str, port: int) -> Iterator[str | None]:
        """While entered, a script listens there, which says so by a first line and ends when its
        input does; gives what kept it from that, or None."""
        pipe = subprocess.PIPE
        command = self._command(host, "-c", script, str(port))
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stdout and process.stderr and process.stdin
            try:
                said = process.stdout.readline()
                yield (
                    None
                    if said
                    else process.stderr.read().strip().rpartition("\n")[2] or "it ended at once"
                )
            finally:
                process.stdin.close()
                try:
                    process.wait(self.connect)
                except subprocess.TimeoutExpired:
                    process.kill()

    def _run(self, host: str, *words: str) -> RemoteResult:
        command = self._command(host, *words)
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=self.limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return RemoteResult(255, "", f"no answer within {self.limit:g} s: timed out")
        except FileNotFoundError:
            return RemoteResult(255, "", "there is no ssh on this machine")
        return RemoteResult(ended.returncode, ended.stdout, ended.stderr)

    def _command(self, host: str, *words: str) -> list[str]:
        """This Python with some words, in this folder, with this PYTHONPATH: as deepspeed runs what
        it starts."""
        folder = os.getcwd()
        path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
        there = (
            f"cd {shlex.quote(folder)} || exit {NO_FOLDER}; test -x {shlex.quote(sys.executable)} "
            f"|| exit {NO_PYTHON}; PYTHONPATH={shlex.quote(path)} exec "
            f"{shlex.join([sys.executable, *words])}"
        )
        options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={self.connect}"]
        return ["ssh", *options, *(["-p", str(self.port)] if self.port else []), host, there]
