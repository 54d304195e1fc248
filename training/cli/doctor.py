"""`ponder doctor`: what works here, what doesn't, and the fix."""

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import tyro

from training.console.printable import check_printable
from training.distributed.doctor import checks as checks
from training.distributed.doctor.checks import Finding
from training.distributed.doctor.hosts import examine_hosts
from training.distributed.doctor.probes import probe_many_ranks
from training.distributed.doctor.remote import Remote

_MARKS = {"works": "✓", "warns": "!", "broken": "✗"}
_PLAIN_MARKS = {"works": "+", "warns": "!", "broken": "x"}
_NAME_WIDTH = 14
_COLUMNS = 80


@dataclass(frozen=True)
class Options:
    """What works on this machine, what doesn't, and the fix. Exit code 0 if training works, 1 if
    something that it needs is broken."""

    quick: bool = False
    """leave out the two ranks that try to talk (a few seconds)"""
    json: bool = False
    """print the findings as JSON"""
    output: Path = Path("runs")
    """where runs would be kept"""
    hostfile: Path | None = None
    """look at the machines that deepspeed --hostfile FILE would start ranks on, too"""
    port: int = 29500
    """where ranks would meet on the first of them (--master_port)"""
    ssh: bool = True
    """ask them through ssh; --no-ssh for launches by hand"""
    ssh_port: int | None = None
    """where their sshd listens"""


def main(argv: Sequence[str]) -> int:
    """Examines this machine; gives the exit code."""
    options = tyro.cli(Options, args=list(argv), prog="ponder doctor", description=Options.__doc__)
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    found = []
    check_printable("--output", str(options.output))
    findings = examine(options.quick, options.output)
    if options.hostfile is not None:
        remote = Remote(options.ssh_port) if options.ssh else None
        findings = chain(findings, examine_hosts(options.hostfile, options.port, remote))
    for finding in findings:
        found.append(finding)
        if not options.json:
            print(as_text(finding, plain), flush=True)
    broken = [finding.name for finding in found if finding.state == "broken"]
    if options.json:
        print(
            json.dumps(
                {"works": not broken, "findings": [asdict(finding) for finding in found]}, indent=2
            )
        )
    else:
        print(f"\n{verdict(found)}")
    return 1 if broken else 0


def examine(quick: bool = False, output: Path = Path("runs")) -> Iterator[Finding]:
    """All checks, in the order in which one thing needs another.

    Args:
        quick: leave out what takes seconds: the two ranks.
        output: where runs would be kept.
    """
    yield checks.check_python()
    yield checks.check_ponderloop()
    yield checks.check_torch()
    yield checks.check_libraries()
    yield checks.check_optional()
    yield checks.check_processor()
    yield checks.check_gpus()
    probe = probe_many_ranks()
    yield checks.check_deepspeed(probe)
    yield checks.check_ops(probe)
    yield checks.check_locks(checks.extensions_folder())
    yield checks.check_builds(checks.extensions_folder())
    yield checks.check_launcher()
    yield checks.check_compiler()
    yield checks.check_backends(probe)
    if not quick:
        yield checks.check_two_ranks()
    yield checks.check_disk(output)


def as_text(finding: Finding, plain: bool = False) -> str:
    """A line for what was found and an indented one for the fix, wrapped at 80 columns; commands
    stay whole."""
    mark = (_PLAIN_MARKS if plain else _MARKS)[finding.state]
    text = _wrapped(
        f"{mark} {finding.name.ljust(_NAME_WIDTH)} ", finding.says, " " * (_NAME_WIDTH + 3)
    )
    if not finding.fix:
        return text
    prose, *commands = finding.fix.split("\n")
    return "\n".join(
        [text, _wrapped("    ", prose, "    "), *(f"    {command}" for command in commands)]
    )


def verdict(found: Sequence[Finding]) -> str:
    """The last line."""
    broken = [finding.name for finding in found if finding.state == "broken"]
    amiss = [finding.name for finding in found if finding.state == "warns"]
    if broken:
        return f"Something that training needs is broken: {', '.join(broken)}."
    return "Training works here" + (f"; worth a look: {', '.join(amiss)}." if amiss else ".")


def _wrapped(first: str, text: str, rest: str) -> str:
    return textwrap.fill(
        text,
        _COLUMNS,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
