"""The benchmark of the guarantee: what it takes for a break and for a saving, and that it can
fail."""

import numpy as np
import pytest

from benchmarks.guarantee.figures import (
    Plan,
    Row,
    about_orders,
    in_closed_form,
    last_before_a_failure,
    last_of_all,
    most_breaks,
    taken,
)
from benchmarks.harness.report import figures_text

PLAN = Plan(risk=0.05, draws=40, sequences=300, test=100_000)


def rows(risks: list[float], seed: int = 0, luck: float = 0.0) -> list[Row]:
    """Settings with these risks, each cheaper than the one before, and what 40 calibrations saw of
    them."""
    generator = np.random.default_rng(seed)
    return [
        {
            "setting": f"number {number}",
            "risk": risk,
            "error": (risk * (1 - risk) / PLAN.test) ** 0.5,
            "cost": 1 - 0.8 * (number + 1) / len(risks),
            "losses": (np.maximum(generator.binomial(300, risk, 40) / 300 - luck, 0)).tolist(),
        }
        for number, risk in enumerate(risks)
    ]


WORDS = {
    "around the risk: share of 40 that break": "breaks",
    "around the risk: share of the best saving": "kept",
    "as calibrate tries: share of 40 that break": "breaks of its own",
    "as calibrate tries: share of the best saving": "kept of its own",
    "mean loss alone": "careless",
    "best of what calibrate tries": "grid",
    "saving of the best": "best",
}


def values(
    close: list[list[Row]], own: list[list[Row]] | None = None
) -> dict[str, tuple[float, bool]]:
    figures = about_orders("learned", close, close if own is None else own, PLAN)
    found = {
        name: [each for each in figures if words in each.figure] for words, name in WORDS.items()
    }
    assert all(len(each) == 1 for each in found.values()) and len(figures) == len(WORDS)
    return {name: (each.value or 0.0, each.met) for name, [each] in found.items()}


def test_the_last_before_the_first_that_fails_is_taken_and_carelessly_the_last_of_all():
    holds = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 0]], dtype=bool)
    assert last_before_a_failure(holds).tolist() == [1, 0, -1, -1]
    assert last_of_all(holds).tolist() == [3, 3, 3, -1]


def test_a_sound_procedure_meets_its_targets_in_a_case_that_is_hard():
    close = [0.001, 0.01, 0.046, 0.048, 0.053, 0.055, 0.057, 0.06, 0.2]
    found = values([rows(close)], [rows([0.001, 0.01, 0.2])])
    assert found["breaks"] == (0, True) and found["breaks of its own"] == (0, True)
    assert found["careless"][0] > 0.5 and found["careless"][1]
    assert found["best"][0] == pytest.approx(0.8 * 2 / 3) and found["grid"] == (1, True)
    assert found["kept of its own"][0] > 0.95


def test_every_target_can_be_missed():
    found = values([rows([0.001, 0.01, 0.08], luck=0.08)])  # sees too little loss
    assert found["breaks"][0] > 0.5 and not found["breaks"][1]
    found = values(
        [rows([0.001, 0.045, 0.0495, 0.2])]
    )  # safe ones that cannot be told from unsafe ones
    assert found["kept"][0] < 0.6 and not found["kept"][1]
    assert found["careless"] == (0, False), (
        "nothing lies just beyond the risk: the case is too easy"
    )
    found = values([rows([0.001, 0.002, 0.003, 0.004, 0.2])], [rows([0.001, 0.2, 0.2, 0.2, 0.2])])
    assert found["grid"] == (pytest.approx(0.25), False)


def test_a_risk_that_the_test_set_cannot_tell_from_the_allowed_one_counts_as_a_break():
    [first, second] = rows([0.001, 0.0495], luck=0.05)
    assert second["risk"] + 2 * second["error"] > PLAN.risk
    assert values([[first, second]])["breaks"][0] > 0.9
    assert values([[first, {**second, "error": 0.0001}]])["breaks"] == (0, True)


def test_of_two_orders_the_cheaper_outcome_counts():
    orders = [rows([0.2]), rows([0.001, 0.01, 0.2])]
    found = values(orders)
    assert found["best"][0] == pytest.approx(0.8 * 2 / 3) and found["breaks"] == (0, True)
    one, two = taken(orders, PLAN), taken(orders[1:], PLAN)
    assert set(taken(orders[:1], PLAN)) == {None} and "number 1" in one
    assert all(number in (other, "number 0") for number, other in zip(one, two, strict=True)), (
        "at half the level"
    )


def test_the_closed_form_is_met_and_the_share_of_breaks_allows_for_sampling():
    exact, off = in_closed_form(300)
    assert exact.met and off.met and exact.value is not None and 0.005 < exact.value < 0.05
    assert 0.05 < most_breaks(200, 0.05) < 0.11 < most_breaks(20, 0.05)
    assert "≤ 4" in figures_text([exact, off])
