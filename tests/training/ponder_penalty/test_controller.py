"""The controller of a budget as pure functions, against simulated models."""

import json
import math
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halting import GeometricPrior, StepsPlusRemainder, UsageError
from training.config.sections import PenaltyConfig
from training.ponder_penalty import Observed, check_penalty
from training.ponder_penalty.actuator import actuator_of
from training.ponder_penalty.controller import PIConstants, PIState, measured, steered
from training.ponder_penalty.ramp import RampPenalty
from training.ponder_penalty.step_target import read_target, steps_of
from training.ponder_penalty.target_penalty import TargetPenalty

UPDATES = 800


class Plant:
    """A model whose depth falls from `free` to `least` steps as its penalty's logarithm passes
    `centre`, with a lag.

    Args:
        free, least: steps without, and under any, penalty.
        centre, width: where, and over how many factors of e, it falls.
        lag: updates at the peak learning rate in which it covers most of the way.
        rise: how fast it comes back up, relative, while steps are not paid for: a task that is
            solved with fewer does not ask for more.
        noise: of one batch's measurement, relative.
        paid: steps where a step is paid for with 0.02 or more; `free` if None.
    """

    def __init__(
        self,
        free=4.0,
        least=1.0,
        centre=-3.9,
        width=1.0,
        lag=40.0,
        rise=1.0,
        noise=0.03,
        seed=0,
        paid=None,
    ):
        self.paid = free if paid is None else paid
        self.free, self.least, self.centre, self.width = free, least, centre, width
        self.lag, self.rise, self.noise, self.ponder, self.random = (
            lag,
            rise,
            noise,
            free,
            random.Random(seed),
        )

    def update(self, weight: float, rate: float) -> float:
        drive = ((math.log(weight) if weight > 0 else -50.0) - self.centre) / self.width
        aim = self.least + (self.free - self.least) / (1 + math.exp(min(50.0, drive)))
        aim += (self.paid - self.free) * max(0.0, min(1.0, -weight / 0.02))
        self.ponder += (
            (aim - self.ponder)
            * rate
            / self.lag
            * (self.rise if aim > self.ponder and weight >= 0 else 1.0)
        )
        return self.ponder * math.exp(self.random.gauss(0, self.noise))


def rate_of(update: int) -> float:
    return 0.1 + 0.9 * (1 + math.cos(math.pi * update / UPDATES)) / 2


def run(penalty: TargetPenalty, plant: Plant, updates=range(UPDATES)) -> list[float]:
    """The plant's true ponder at each update, while the task's loss falls to a tenth in the first
    fifth."""
    trace = []
    for update in updates:
        weight = penalty.coefficient(update)
        ponder = plant.update(weight, rate_of(update))
        penalty.observe(
            update, Observed(ponder, 2.0 * 0.1 ** (update / (UPDATES / 5)), rate_of(update))
        )
        trace.append(plant.ponder)
    return trace


def budget(target: float, weight: float = 0.01) -> TargetPenalty:
    return TargetPenalty(
        actuator_of(StepsPlusRemainder(), weight, target, "GravesACT", 10),
        target,
        UPDATES,
        UPDATES // 3,
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    share=st.floats(0.25, 0.75),
    width=st.floats(1.0, 2.0),
    lag=st.floats(15, 60),
    free=st.floats(2, 8),
    rise=st.sampled_from([1.0, 0.1]),
    centre=st.floats(math.log(0.002), math.log(0.1)),
)
def test_any_model_that_answers_in_time_holds_the_target(share, width, lag, free, rise, centre):
    target = 1 + share * (free - 1)
    penalty, plant = (
        budget(target),
        Plant(free=free, width=width, lag=lag, rise=rise, centre=centre),
    )
    late = run(penalty, plant)[3 * UPDATES // 4 :]
    assert sum(late) / len(late) == pytest.approx(target, rel=0.05)
    assert max(abs(ponder / target - 1) for ponder in late) < 0.1
    assert penalty.says() is None
    assert penalty.summary()["held"] == pytest.approx(sum(late) / len(late), rel=0.01)


def test_a_long_run_is_steered_as_fast_as_a_short_one_and_walks_more_slowly():
    """How soon depth answers is the optimizer's matter; how long the way is, the run's."""
    long = TargetPenalty(
        actuator_of(StepsPlusRemainder(), 0.01, 2.0, "GravesACT", 10), 2.0, 20 * UPDATES, 100
    )
    short = budget(2.0)
    assert long.constants == short.constants
    for penalty in (long, short):
        penalty.budget = replace(penalty.budget, began_at=4.0)
    assert long.wanted(20 * 200) == pytest.approx(short.wanted(200)) and long.wanted(
        200
    ) > short.wanted(200)


def test_no_penalty_before_the_task_is_learned():
    penalty = budget(2.0)
    weights = []
    for update in range(UPDATES):
        weights.append(penalty.coefficient(update))
        penalty.observe(update, Observed(4.0, 2.0, 1.0))  # a loss that never falls
    first = next(update for update, weight in enumerate(weights) if weight > 0)
    assert UPDATES // 3 < first <= UPDATES // 3 + 3  # the latest moment
    learned = budget(2.0)
    run(learned, Plant(), range(UPDATES // 5 + 50))
    assert learned.coefficient(UPDATES // 5 + 50) > 0  # well before it, where the loss has fallen


def test_steps_beyond_what_the_task_takes_are_paid_for():
    penalty = budget(6.0)
    trace = run(penalty, Plant(free=4.0, paid=9.0))
    assert -0.1001 < penalty.coefficient(UPDATES) < 0
    assert trace[-1] == pytest.approx(6.0, rel=0.05) and penalty.says() is None


def test_a_target_that_no_pay_brings_is_said():
    penalty = budget(6.0)
    run(penalty, Plant(free=4.0))
    assert penalty.coefficient(UPDATES) == pytest.approx(-0.1)  # never more than ten times as much
    said = r"out of gain: with penalty -0.1, which pays for steps, the ponder is (3.9|4.0)"
    assert re.search(said, penalty.says() or "")
    assert penalty.summary()["says"] == penalty.says()


def test_depth_that_was_taken_away_is_paid_for_until_it_is_back():
    penalty, plant = budget(2.0), Plant(free=4.0, rise=0.0)
    run(penalty, plant, range(600))
    plant.ponder = 1.7  # as if it had fallen past the target
    weights, trace = [], []
    for update in range(600, UPDATES):
        trace += run(penalty, plant, range(update, update + 1))
        weights.append(penalty.coefficient(update + 1))
    assert -0.1001 < min(weights) < 0 and trace[-1] == pytest.approx(2.0, rel=0.05)


def test_a_ponder_that_no_penalty_moves_is_said_and_not_chased():
    penalty = budget(2.0)
    run(penalty, Plant(free=4.0, least=3.0))
    assert re.search(
        r"out of gain: beyond penalty .* the ponder stays at (2.9|3.0)", penalty.says() or ""
    )
    stays = penalty.coefficient(UPDATES)
    assert 0.02 < stays < 1.01
    penalty.observe(UPDATES, Observed(3.0, 0.1, 0.1))
    assert penalty.coefficient(UPDATES + 1) == stays


def test_it_steers_again_as_soon_as_a_model_comes_within_reach():
    """No windup: time spent at the end of the actuator leaves nothing behind that has to be
    undone."""
    penalty, plant = budget(3.0), Plant(free=2.5, lag=15)
    run(penalty, plant, range(450))
    said = penalty.budget
    run(penalty, plant, range(450, 550))
    assert "out of gain" in (penalty.says() or "")
    assert penalty.budget.bias == pytest.approx(said.bias, abs=0.1)
    plant.free = plant.paid = 4.0
    trace = run(penalty, plant, range(550, UPDATES))
    assert penalty.says() is None
    assert max(trace) < 1.25 * 3.0 and trace[-1] == pytest.approx(3.0, rel=0.05)


CONTROL = PIConstants(
    low=-1.0,
    high=2.0,
    end=1.0,
    most=100.0,
    back=10.0,
    proportional_gain=12.0,
    time=20.0,
    growth_time=40.0,
)


@given(ponder=st.lists(st.floats(1, 10), min_size=1, max_size=200), rate=st.floats(0, 1))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_nothing_leaves_its_ends_whatever_is_measured(ponder, rate):
    constants = replace(CONTROL, lead_time=10.0, growth_time=5.0)
    steering = PIState()
    for value in ponder:
        steering = steered(constants, measured(constants, steering, value), 2.0, rate)
        assert (
            -constants.end <= steering.bias <= constants.end
            and constants.low <= steering.control <= constants.high
        )
        assert 1.0 <= steering.gain <= constants.most


def test_more_steps_than_asked_for_raise_the_push_and_a_slow_learner_moves_the_bias_less():
    start = PIState(ponder=2.2)
    assert steered(CONTROL, start, 2.0, 1.0).control == pytest.approx(12 * math.log(1.1))
    assert steered(CONTROL, replace(start, ponder=1.8), 2.0, 1.0).control < 0
    fast, slow = (steered(CONTROL, start, 2.0, rate).bias for rate in (1.0, 0.1))
    assert fast == pytest.approx(12 * math.log(1.1) / 20) and slow == pytest.approx(
        fast / math.sqrt(10)
    )


def test_noise_pushes_as_often_one_way_as_the_other():
    """What a batch says too much and too little by the same factor cancels exactly, at any gain."""
    at = PIState(bias=0.5, gain=30.0)
    more, less = (
        steered(CONTROL, replace(at, ponder=2.0 * factor), 2.0, 1.0).control
        for factor in (1.05, 1 / 1.05)
    )
    assert more + less == pytest.approx(2 * at.bias) and more > at.bias


def test_the_reach_grows_where_the_whole_push_moves_nothing_and_shrinks_where_less_is_needed():
    stuck, others = (
        PIState(bias=1.0, gain=3.0, ponder=2.2),
        PIState(bias=0.5, gain=3.0, ponder=2.02),
    )
    assert steered(CONTROL, stuck, 2.0, 1.0).gain == pytest.approx(3.0 * math.exp(1 / 40))
    assert steered(CONTROL, others, 2.0, 1.0).gain == pytest.approx(3.0 * math.exp(-0.2 / 40))
    below = PIState(bias=-1.0, gain=3.0, ponder=1.8)
    assert steered(CONTROL, below, 2.0, 1.0).gain == pytest.approx(3.0 * math.exp(1 / 40))
    assert (
        steered(CONTROL, replace(below, gain=10.5), 2.0, 1.0).gain < 10.5
    )  # beyond what is ever paid for a step
    kept = steered(replace(CONTROL, low=0.0), replace(below, bias=0.0), 2.0, 1.0)
    assert kept.control == 0.0 and kept.bias == 0.0  # nothing may apply towards more steps


def test_a_stopped_controller_goes_on_bit_for_bit():
    whole, first = budget(2.0), budget(2.0)
    plant, again = Plant(), Plant()
    run(whole, plant, range(400))
    run(first, again, range(300))
    second = budget(2.0)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    run(second, again, range(300, 400))
    assert second.state_dict() == whole.state_dict() and second.coefficient(
        400
    ) == whole.coefficient(400)


def test_the_state_of_another_version_is_refused_in_words():
    with pytest.raises(UsageError, match="another version"):
        budget(2.0).load_state_dict({"integral": 0.3, "pressure": 1.0, "where": "steers"})


def test_a_priors_mean_is_moved_and_its_weight_stays():
    cost = GeometricPrior(prior_steps=5.0)
    penalty = TargetPenalty(actuator_of(cost, 0.1, 3.0, "PonderNet", 10), 3.0, UPDATES, 100)
    assert penalty.coefficient(0) == 0.1 and cost.prior_steps == pytest.approx(
        3.0
    )  # from the start: nothing waits
    for update in range(450):
        penalty.observe(update, Observed(4.0, 0.1 if update > 20 else 2.0, 1.0))
        assert penalty.coefficient(update + 1) == 0.1
    assert 1.0 < cost.prior_steps < 2.5  # too many steps: the prior asks for fewer
    for update in range(450, 750):
        penalty.observe(update, Observed(2.0, 0.1, 1.0))
        penalty.coefficient(update + 1)
    assert cost.prior_steps > 4.0


@pytest.mark.parametrize(
    ("given", "steps"),
    [("4", 4.0), (4, 4.0), (2.5, 2.5), ("40%", 4.0), (" 12.5 % ", 1.25), ("100%", 10.0)],
)
def test_a_target_is_steps_or_a_share_of_the_limit(given, steps):
    config = PenaltyConfig(target_steps=given)
    assert config.target_steps is not None and steps_of(config.target_steps, 10) == steps
    assert PenaltyConfig.model_validate_json(config.model_dump_json(), strict=True) == config


@pytest.mark.parametrize("given", ["many", "0%", "140%", "nan", "4 steps", "%"])
def test_what_is_no_target_is_refused(given):
    with pytest.raises(UsageError, match="number of steps, or a share"):
        read_target(given)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("0.5", "steps 0.5 is below 1"),
        ("5%", "is 0.5 steps, below 1"),
        ("11", "above --loop.max-steps 10"),
    ],
)
def test_a_target_that_no_run_can_hold_is_refused(target, says):
    with pytest.raises(UsageError, match=says):
        steps_of(target, 10)
    with pytest.raises(UsageError, match="--halting.min-steps is 3"):
        steps_of("2", 10, min_steps=3)


def test_a_ramp_waits_for_its_warm_up_and_rises_by_equal_factors():
    ramp = RampPenalty(0.001, 0.1, warmup=10, updates=111)
    values = [ramp.coefficient(update) for update in range(111)]
    assert (
        values[0] == 0.0
        and values[5] == pytest.approx(0.0005)
        and values[10] == pytest.approx(0.001)
    )
    assert values[60] == pytest.approx(0.01) and values[110] == pytest.approx(0.1)
    with pytest.raises(UsageError, match="two rising numbers"):
        check_penalty(None, (0.1, 0.01), 10, 1)
    with pytest.raises(UsageError, match="Drop one of them"):
        check_penalty("3", (0.01, 0.1), 10, 1)
