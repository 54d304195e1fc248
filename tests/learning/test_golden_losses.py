"""Losses of fixed runs, to the last bit: a change that only moves code changes none of them.

They were made by commit `fe4095c`, before the code moved into rooms; on AMD's processors by
`942535d`, which gave those of `fe4095c` bit for bit on Intel's. On another version of PyTorch, or on
a processor of a third kind, sums are taken in another order, and only closeness is asked.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import small, train_only

from benchmarks.harness.hardware import hardware

KIND = "_amd" if "AMD" in hardware()["processor"] else ""
GOLDEN = json.loads((Path(__file__).parent / f"golden_losses{KIND}.json").read_text())
COMMON: dict[str, Any] = {
    "updates": 8,
    "eval_every": 8,
    "save_every": 8,
    "map_every": 9,
    "threads": 1,
    "name": "golden",
    "optimizer": {"decay_embeddings": True},  # as every optimizer did when they were made
}
SHAPE = {"width": 16, "num_heads": 2}
CASES: dict[str, dict[str, Any]] = {
    "GravesACT": {},
    "PonderNet, deep": {
        "halting": {"kind": "PonderNet"},
        "penalty": {},
        "model": {
            **SHAPE,
            "num_layers": 2,
            "num_kv_heads": 1,
            "prelude_layers": 1,
            "coda_layers": 1,
            "norm_kind": "layer",
            "feed_forward": "gelu",
        },
    },
    "ExitGate, causal, checkpointed": {
        "data": {"kind": "Addition", "options": {"digits": 3}},
        "halting": {"kind": "ExitGate"},
        "penalty": {},
        "loop": {"max_steps": 4, "backprop": "checkpointed"},
        "model": SHAPE,
    },
    "StickBreaking, packed": {
        "halting": {"kind": "StickBreaking"},
        "loop": {"max_steps": 4, "path": "packed"},
    },
    "UniversalTransformerACT, dense, signal": {
        "halting": {"kind": "UniversalTransformerACT"},
        "loop": {"max_steps": 4, "path": "dense"},
        "model": {**SHAPE, "step_signal": "sinusoidal", "injection": "add"},
    },
    "ExpertChoiceRouter, accumulation": {
        "halting": {"kind": "ExpertChoiceRouter"},
        "penalty": {},
        "accumulation": 2,
    },
    "GRU cell, parity": {
        "data": {"kind": "ParityVector", "options": {"most": 6}},
        "model": {**SHAPE, "block": "GRUBlock", "positions": "none"},
    },
    "FixedSteps, truncated": {
        "halting": {"kind": "FixedSteps"},
        "penalty": {},
        "loop": {"max_steps": 4, "backprop": "truncated", "truncate_every": 2},
    },
}


def same_arithmetic() -> bool:
    """Whether sums are taken in the order in which the golden losses were made."""
    here = {
        "torch": torch.__version__.partition("+")[0],
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    maker = GOLDEN["made_with"]["processor"].split()
    same_kind = all(word in hardware()["processor"] for word in maker)
    return same_kind and all(GOLDEN["made_with"][name] == value for name, value in here.items())


def run_losses(folder: Path, changes: dict[str, Any]) -> dict[str, list[float]]:
    """Of training updates and of the evaluation, of one fixed run."""
    assert train_only(small(folder, **{**COMMON, **changes})) == 0
    lines = (folder / "golden" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {
        "losses": [row["loss"] for row in rows if row["kind"] == "train"],
        "evaluation": [row["loss"] for row in rows if row["kind"] == "evaluation"],
    }


@pytest.mark.parametrize("name", CASES)
def test_losses_are_what_they_were(tmp_path: Path, name: str):
    made = run_losses(tmp_path, CASES[name])
    for kind, values in made.items():
        golden = [float.fromhex(value) for value in GOLDEN[kind][name]]
        assert len(golden) == len(values) > 0
        if same_arithmetic():
            assert [value.hex() for value in values] == GOLDEN[kind][name]
        else:
            assert values == pytest.approx(golden, rel=1e-4)


def test_the_golden_losses_would_notice_another_run(tmp_path: Path):
    values = run_losses(tmp_path, {"seed": 1})["losses"]
    golden = [float.fromhex(value) for value in GOLDEN["losses"]["GravesACT"]]
    assert values != pytest.approx(golden, rel=1e-4)
