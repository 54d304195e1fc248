"""The benchmark of the guarantee: what it takes for a break and for a saving, and that it can fail."""

import numpy as np
import pytest

from benchmarks.guarantee import Plan, Row, against_targets, chosen, in_closed_form, most_breaks, table

PLAN = Plan(risk=0.05, draws=40, sequences=300)


def rows(risks: list[float], seed: int = 0, luck: float = 0.0) -> list[Row]:
    """Settings with these risks, each cheaper than the one before, and what 40 calibrations saw of them."""
    generator = np.random.default_rng(seed)
    return [
        {
            "risk": risk,
            "cost": 1 - 0.2 * (number + 1),
            "losses": (np.maximum(generator.binomial(300, risk, 40) / 300 - luck, 0)).tolist(),
        }
        for number, risk in enumerate(risks)
    ]


def values(orders: list[list[Row]]) -> dict[str, tuple[float | None, bool]]:
    figures = against_targets("learned", orders, PLAN)
    words = ("break the risk", "saving that is kept", "saving of the best", "mean loss alone")
    return {word: (each.value, each.met) for word, each in zip(words, figures, strict=True) if word in each.figure}


def test_the_last_before_the_first_that_fails_is_taken():
    holds = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=bool)
    assert chosen(holds).tolist() == [1, 0, -1]


def test_a_sound_procedure_meets_its_targets_and_one_that_sees_too_little_loss_does_not():
    found = values([rows([0.001, 0.01, 0.08])])
    assert len(found) == 4 and all(met for _, met in found.values())
    assert found["saving that is kept"][0] > 0.95 and found["saving of the best"][0] == pytest.approx(0.4)
    found = values([rows([0.001, 0.01, 0.08], luck=0.08)])
    assert found["break the risk"][0] > 0.5 and not found["break the risk"][1]
    found = values([rows([0.001, 0.045, 0.049, 0.2])])  # safe ones that cannot be told from unsafe ones
    assert found["saving that is kept"][0] < 0.6 and not found["saving that is kept"][1]
    assert found["mean loss alone"][0] == 0


def test_of_two_orders_the_cheaper_outcome_counts():
    found = values([rows([0.2]), rows([0.001, 0.01, 0.2])])
    assert found["saving of the best"][0] == pytest.approx(0.4) and found["break the risk"] == (0, True)


def test_the_closed_form_is_met_and_the_share_of_breaks_allows_for_sampling():
    exact, off = in_closed_form(300)
    assert exact.met and off.met and exact.value is not None and 0.005 < exact.value < 0.05
    assert 0.05 < most_breaks(200, 0.05) < 0.11 < most_breaks(20, 0.05)
    assert "≤ 4" in table([exact, off])
