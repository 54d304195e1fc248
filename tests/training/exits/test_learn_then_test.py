"""Learn-then-Test against closed forms: its p-values, and how often it lets a setting through that
breaks the risk."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from training.exits.learn_then_test import (
    fewest_units,
    fixed_sequence,
    hoeffding_bentkus,
    last_that_holds,
    most_losses,
)


def test_the_p_value_is_the_smaller_of_the_two_bounds():
    for mean, count, allowed in (
        (0.0, 300, 0.01),
        (0.004, 1000, 0.01),
        (0.02, 500, 0.05),
        (0.35, 200, 0.4),
    ):
        kl = mean * math.log(mean / allowed) if mean else 0.0
        kl += (1 - mean) * math.log((1 - mean) / (1 - allowed))
        bentkus = math.e * stats.binom.cdf(round(count * mean), count, allowed)
        assert hoeffding_bentkus(mean, count, allowed) == pytest.approx(
            min(1, math.exp(-count * kl), bentkus)
        )
    assert hoeffding_bentkus(0.0, 250, 0.02) == pytest.approx(0.98**250)
    assert hoeffding_bentkus(0.02, 250, 0.02) == hoeffding_bentkus(1.0, 250, 0.02) == 1
    values = [hoeffding_bentkus(mean, 400, 0.05) for mean in np.linspace(0, 0.05, 60)]
    assert all(one <= other for one, other in pairwise(values)) and values[0] < 1e-8


def test_a_sum_that_is_whole_does_not_count_as_the_next_whole_number():
    mean = float(np.full(1000, 0.007).mean())
    assert 1000 * mean > 7
    assert hoeffding_bentkus(mean, 1000, 0.01) == hoeffding_bentkus(0.007, 1000, 0.01)


@pytest.mark.parametrize(
    ("count", "allowed", "level"), [(400, 0.01, 0.05), (1000, 0.02, 0.1), (300, 0.3, 0.01)]
)
def test_a_setting_at_the_allowed_risk_holds_with_a_chance_of_at_most_the_level(
    count, allowed, level
):
    """For losses that are 0 or 1 the chance is a sum of binomial terms: exact, no simulation."""
    most = most_losses(count, allowed, level)
    assert 0 <= most < count * allowed
    assert stats.binom.cdf(most, count, allowed) <= level
    assert stats.binom.cdf(most, count, allowed * 0.1) > 0.5, (
        "a safe setting has to hold mostly, or nothing is saved"
    )
    assert hoeffding_bentkus((most + 1) / count, count, allowed) > level


def test_too_few_units_can_show_nothing():
    fewest = fewest_units(0.01, 0.05)
    assert (
        fewest == 299
        and most_losses(fewest, 0.01, 0.05) == 0
        and most_losses(fewest - 1, 0.01, 0.05) == -1
    )
    assert fewest_units(0.5, 0.25) == 2


def draw_choice(generator, risks, count, allowed, level) -> int:
    """Which of settings with independent losses of 0 or 1 is taken; −1 for none."""
    tested = fixed_sequence(
        range(len(risks)),
        lambda number: (generator.random(count) < risks[number]).astype(float),
        allowed,
        level,
    )
    best = last_that_holds(tested)
    return -1 if best is None else best.setting


def test_the_procedure_takes_each_setting_as_often_as_the_closed_form_says():
    """Setting j is the last that holds with chance (1 − h_{j+1})·Π_{i≤j} h_i, h_i = P(Binomial(n,
    R_i) ≤ k)."""
    risks, count, allowed, level, draws = [0.002, 0.01, 0.02, 0.06], 500, 0.02, 0.1, 3000
    most = most_losses(count, allowed, level)
    holds = [float(stats.binom.cdf(most, count, risk)) for risk in risks]
    reached = np.cumprod([1.0, *holds])
    exact = [
        *(reached[number + 1] * (1 - hold) for number, hold in enumerate([*holds[1:], 0.0])),
        1 - holds[0],
    ]
    generator = np.random.default_rng(0)
    taken = [draw_choice(generator, risks, count, allowed, level) for _ in range(draws)]
    shares = [taken.count(number) / draws for number in (0, 1, 2, 3, -1)]
    sigma = [4 * math.sqrt(chance * (1 - chance) / draws) + 1e-9 for chance in exact]
    assert all(
        abs(share - chance) <= width
        for share, chance, width in zip(shares, exact, sigma, strict=True)
    )
    assert exact[1] > 0.2 and 0.01 < exact[2] + exact[3] <= level, "the case has to be a hard one"


def test_what_lies_behind_the_first_that_fails_is_not_computed():
    asked = []

    def losses(number: int) -> np.ndarray:
        asked.append(number)
        return np.full(1000, [0.0, 0.05, 0.0][number])

    tested = fixed_sequence(range(3), losses, 0.01, 0.05)
    assert asked == [0, 1] and [each.holds for each in tested] == [True, False]
    best = last_that_holds(tested)
    assert best is not None and best.setting == 0 and last_that_holds(tested[1:]) is None


def test_a_loss_outside_of_its_bounds_is_refused():
    with pytest.raises(AssertionError, match="a loss has to lie in"):
        fixed_sequence([0], lambda _: np.array([0.0, 1.5]), 0.1, 0.05)
