"""What law 6's cure is for: without one part of it, ranks that loop unequally fail. If a version of
DeepSpeed or torch no longer needs a part, the test of it fails, and the part may go."""

import json
from pathlib import Path

import pytest
from conftest import free_port

from benchmarks.unequal.benchmark import GRADIENTS


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, launch_ranks) -> dict[str, list[dict]]:
    """How each attempt ended on both ranks."""
    folder: Path = tmp_path_factory.mktemp("facts")
    launch_ranks(
        "facts_worker.py", folder, *{free_port() for _ in range(40)}, folder=folder, timeout=300
    )
    first, second = (json.loads((folder / f"found{rank}.json").read_text()) for rank in range(2))
    return {name: [first[name], second[name]] for name in first}


def outcomes(ended: list[dict]) -> list[str]:
    return [each["outcome"] for each in ended]


def fails(ended: list[dict]) -> bool:
    """Whether a rank did not come to its end, or the gradients are not those of one process."""
    return outcomes(ended) != ["done", "done"] or not ended[0]["gradients"] <= GRADIENTS


@pytest.mark.parametrize("stage", range(4))
def test_a_gate_that_one_rank_does_not_ask_is_harmless(found, stage):
    ended = found[f"cured, stage {stage}"]
    assert not fails(ended), ended
    assert [each["steps"] for each in ended] == [1, 4]


@pytest.mark.parametrize("stage", [1, 2])
def test_without_the_zero_gradient_it_fails(found, stage):
    assert fails(found[f"untied, stage {stage}"]), found[f"untied, stage {stage}"]


def test_without_the_zero_gradient_stage_0_works(found):
    assert not fails(found["untied, stage 0"]), found["untied, stage 0"]


@pytest.mark.parametrize("stage", range(4))
def test_a_rank_without_a_token_is_harmless_without_a_ponder_cost(found, stage):
    assert not fails(found[f"an empty rank, stage {stage}"]), found[f"an empty rank, stage {stage}"]


def test_gradients_that_do_not_come_together_are_mixed_up_in_silence(found):
    """Where zeros come in another order than other ranks' gradients, ZeRO-2 adds up those of
    different parameters."""
    ended = found["an empty rank, not together, stage 2"]
    assert outcomes(ended) == ["done", "done"] and ended[0]["gradients"] > 1e-3, ended


def test_stage_3_needs_the_leaf(found):
    assert outcomes(found["no leaf, stage 3"]) != ["done", "done"]


def test_stage_3_needs_agreement_where_the_head_is_inside_the_loop(found):
    assert outcomes(found["reads logits without agreement, stage 3"]) != ["done", "done"]


def test_experts_need_agreement(found):
    """Left to themselves the ranks would take different numbers of steps, and so cannot exchange
    tokens."""
    alone = found["experts, nothing exchanged or agreed"]
    assert [each["steps"] for each in alone] == [1, 4]
    assert outcomes(found["experts, exchanged but not agreed"]) != ["done", "done"]
    agreed = found["experts, exchanged and agreed"]
    assert outcomes(agreed) == ["done", "done"], agreed
    assert [each["steps"] for each in agreed] == [4, 4]


def test_a_rank_without_tokens_has_to_go_back_through_all_steps(found):
    assert outcomes(found["experts, without a way back"]) != ["done", "done"]
