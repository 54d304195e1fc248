"""The judge of bad inputs: it sees each fault, and lets pass what is well."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.trouble import command_lines, config_files, ds_configs, http_attacks, surroundings
from benchmarks.trouble.case import Case, Ended
from benchmarks.trouble.forked import MARKER, run_cases
from benchmarks.trouble.material import SMALL
from benchmarks.trouble.rules import DOMAINS, RULES
from benchmarks.trouble.verdict import FAULTS, faults, mechanism, same
from training.cli.train_request import read_request

THREE = "error: It is wrong.\n  why:  Because.\n  fix:  Write --that.\n"
TRACE = (
    'Traceback (most recent call last):\n  File "/x/training/start.py", line 7, in f\nKeyError: 3\n'
)


def case(**changes: Any) -> Case:
    return Case(**{"kind": "some", "number": 1, "says": "a slip", "words": ("show",), **changes})


def ended(**changes: Any) -> Ended:
    usual = Ended(2, THREE, 0.1, None, False, (), ())
    return Ended(**{**vars(usual), **changes})


@pytest.mark.parametrize(
    ("given", "came", "wrong", "found"),
    [
        ({}, {}, None, []),
        ({}, {"said": "│ For full helptext, run ponder train --help │"}, None, []),
        ({"rule": "value"}, {"code": 0, "said": "done"}, None, []),
        ({}, {"code": 0, "said": "done"}, None, ["nonsense"]),
        ({"rule": "value", "must_work": True}, {}, None, ["nonsense"]),
        ({}, {"said": THREE + TRACE}, None, ["traceback"]),
        ({}, {"code": None}, None, ["hang"]),
        ({}, {"code": -9, "said": ""}, None, ["crash"]),
        ({}, {"said": "no"}, None, ["unexplained"]),
        ({}, {"executed": True}, None, ["execution"]),
        ({}, {"outside": ("x",)}, None, ["write outside"]),
        ({}, {"left": ("ponder-1", "torchinductor_x")}, None, ["leftover"]),
        ({}, {}, "loss: it is gone", ["loss"]),
        ({"rule": "said", "must_say": "decay"}, {"code": 0, "said": "Decay is 3"}, None, []),
        ({"rule": "said", "must_say": "decay"}, {"code": 0, "said": "fine"}, None, ["nonsense"]),
        ({"rule": "value"}, {"code": 0, "said": "loss nan"}, None, ["nonsense"]),
        ({"rule": "value", "words": ("a", "nan")}, {"code": 0, "said": "for nan"}, None, []),
        (
            {"rule": "value", "config": (("a.b", 3),)},
            {"code": 0, "said": "", "config": {"a": {"b": 2}}},
            None,
            ["nonsense"],
        ),
    ],
)
def test_each_fault_is_seen(
    given: dict[str, Any], came: dict[str, Any], wrong: str | None, found: list[str]
):
    told = faults(case(**given), ended(**came), wrong)
    assert [fault for fault, _ in told] == found and set(found) <= set(FAULTS)


def test_faults_of_one_mechanism_share_a_name():
    assert mechanism("traceback", "KeyError: 3", TRACE) == "training/start.py:7 KeyError"
    assert mechanism("nonsense", "x is 'a'", "") == mechanism("nonsense", "x is 'bcd'", "")


def test_what_counts_as_the_same_value():
    assert same(3.0, 3) and same("4", 4) and same([1, 2], (1, 2)) and same(10**400, 10**400)
    assert not same(3, 4) and not same("a", 4) and not same(None, 1)


def test_a_child_is_seen_to_do_what_it_should_not(tmp_path: Path):
    """A case of each fault that a child can commit, in real children."""

    def executes(place: Path) -> int:
        (place / MARKER).touch()
        return 0

    def writes_outside(place: Path) -> int:
        (place.parent / "outside.txt").write_text("changed")
        return 0

    def hangs(place: Path) -> int:
        while True:
            pass

    def raises(place: Path) -> int:
        raise KeyError("x")

    def loses(place: Path) -> int:
        return 0

    acts = (executes, writes_outside, hangs, raises, loses)
    cases = [
        Case("act", number, act.__name__, rule="kept", run=act, limit=1.0)
        for number, act in enumerate(acts)
    ]
    found = {
        done.says: [fault for fault, _ in faults(done, came, wrong)]
        for done, came, wrong in run_cases(cases, tmp_path, workers=5)
    }
    assert found == {
        "executes": ["execution"],
        "writes_outside": ["write outside"],
        "hangs": ["hang"],
        "raises": ["traceback", "unexplained"],
        "loses": [],
    }
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "family", [command_lines, config_files, ds_configs, http_attacks, surroundings]
)
def test_a_case_is_the_same_whenever_it_is_made(family: Any):
    config = read_request(SMALL).config

    material = SimpleNamespace(config=json.loads(config.to_json()), copy=None)
    made = [family.make(number, material) for number in range(300)]
    again = [family.make(number, material) for number in range(300)]
    assert [(each.says, each.words) for each in made] == [(each.says, each.words) for each in again]
    assert {each.rule for each in made} <= {None, *RULES}
    assert len(Counter(each.says for each in made)) > 30 or family is http_attacks


def test_the_table_names_the_flags_that_there_are():
    config = read_request(SMALL).config
    for path in DOMAINS:
        held: Any = config
        for name in path.split(".options")[0].split("."):
            assert hasattr(held, name), path
            held = getattr(held, name)
