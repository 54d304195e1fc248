"""docs/laws.md names tests that exist, and leaves out no law of the contract."""

import ast
import re
from pathlib import Path

from act.testing import HaltingRuleContract

ROOT = Path(__file__).resolve().parents[3]
NAME = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def exists(path: str, name: str) -> bool:
    """Whether a file of tests has this function, or this class of the contract has this test."""
    file = ROOT / path
    if not file.exists():
        return False
    found = {node.name: node for node in ast.parse(file.read_text()).body if hasattr(node, "name")}  # pyright: ignore[reportAttributeAccessIssue]
    outer, _, inner = name.partition("::")
    node = found.get(outer)
    if not inner:
        return isinstance(node, ast.FunctionDef)
    is_contract = isinstance(node, ast.ClassDef) and "HaltingRuleContract" in map(
        ast.unparse, node.bases
    )
    return is_contract and hasattr(HaltingRuleContract, inner)


def test_every_test_that_is_named_exists() -> None:
    named = NAME.findall((ROOT / "docs" / "laws.md").read_text())
    assert [f"{path}::{name}" for path, name in named if not exists(path, name)] == []
    tests = {name.partition("::")[2] for _, name in named}
    assert {name for name in dir(HaltingRuleContract) if name.startswith("test_")} <= tests


def test_the_check_can_fail() -> None:
    here = "tests/act/testing/test_laws_are_named.py"
    assert exists(here, "test_the_check_can_fail")
    assert not exists(here, "test_nothing") and not exists(
        "tests/act/test_nothing.py", "test_nothing"
    )
    assert not exists("tests/act/testing/test_rule_contract.py", "TestGravesACT::test_law_7")
