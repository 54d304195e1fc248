"""Random training depth: its distribution, that it is one number an update, and that a run follows
it."""

import math
import signal

import numpy as np
import pytest
from scipy import stats
from small_runs import losses, small, train_only

from halting import UsageError
from training.config.run_config import RunConfig
from training.config.sections import HaltingPart, LoopConfig, Part
from training.loop.training_depth import training_depth
from training.runs import metrics
from training.start import train
from training.train import main

FIXED = {"kind": "FixedSteps"}


def config_of(seed: int = 0, min_steps: int = 1, **loop) -> RunConfig:
    halting = HaltingPart(kind="FixedSteps", min_steps=min_steps)
    return RunConfig(
        recipe="r", seed=seed, halting=halting, data=Part(kind="Parity"), loop=LoopConfig(**loop)
    )


def depths(number: int = 4000, **options) -> np.ndarray:
    config = config_of(**options)
    return np.array([training_depth(config, update) for update in range(number)])


def chi_squared(found: np.ndarray, expected: np.ndarray) -> float:
    """The p-value of counts."""
    assert expected.min() >= 5
    return float(stats.chisquare(found, expected * found.sum() / expected.sum()).pvalue)


def test_fixed_depth_is_the_limit():
    assert set(depths(50, max_steps=7)) == {7}


def test_uniform_depth_is_uniform_down_to_the_least():
    assert (
        chi_squared(
            np.bincount(depths(max_steps=6, train_depth="uniform"))[1:], np.full(6, 4000 / 6)
        )
        > 1e-3
    )
    assert set(depths(300, max_steps=5, min_steps=3, train_depth="uniform")) == {3, 4, 5}


@pytest.mark.parametrize(("mean", "sigma", "limit"), [(6, 0.5, 40), (3, 0.0, 30), (6, 0.5, 8)])
def test_log_normal_poisson_has_its_distribution(mean, sigma, limit):
    """Against the mixture Σ_τ N(τ) Poisson(k; e^τ), summed on a grid; what lies above the limit is
    at the limit."""
    found = depths(
        max_steps=limit, train_depth="lognormal_poisson", mean_depth=mean, depth_sigma=sigma
    )
    chances = (np.arange(2000) + 0.5) / 2000
    rates = np.exp(math.log(mean) - sigma**2 / 2 + sigma * stats.norm.ppf(chances))
    density = stats.poisson.pmf(np.arange(300)[:, None], rates).mean(1)
    expected = np.concatenate([density[: limit - 1], [density[limit - 1 :].sum()]]) * len(found)
    counts = np.bincount(found, minlength=limit + 1)[1:]
    tail = int(np.argmax(expected[::-1].cumsum() >= 5)) + 1  # too rare to count one by one
    counts, expected = (np.append(each[:-tail], each[-tail:].sum()) for each in (counts, expected))
    assert chi_squared(counts[expected >= 5], expected[expected >= 5]) > 1e-3
    if limit > 4 * mean:
        assert found.mean() == pytest.approx(mean + 1, rel=0.03)


def test_a_depth_depends_on_seed_and_update_alone_and_by_default_centres_on_half():
    options = {"max_steps": 64, "train_depth": "lognormal_poisson"}
    assert depths(50, **options).tolist() == depths(50, **options).tolist()
    assert depths(50, **options).tolist() != depths(50, seed=1, **options).tolist()
    assert depths(50, **options).tolist() == depths(50, mean_depth=32, **options).tolist()
    assert depths(200, min_steps=20, **options).min() == 20
    assert depths(500, max_steps=2000, train_depth="lognormal_poisson").max() <= 2000


def test_a_mean_above_the_limit_is_refused():
    with pytest.raises(UsageError, match=r"--loop\.mean-depth 30 lies above --loop\.max-steps 10"):
        LoopConfig(mean_depth=30, train_depth="lognormal_poisson")


def test_a_run_takes_the_steps_that_were_drawn_whatever_ranks_and_micro_batches(tmp_path):
    loop = {"max_steps": 6, "train_depth": "uniform", "backprop": "truncated_last", "last_steps": 2}
    for accumulation in (1, 4):
        config = small(
            tmp_path, name=f"by{accumulation}", halting=FIXED, loop=loop, accumulation=accumulation
        )
        assert train_only(config) == 0
        lines = metrics.read_metrics(tmp_path / f"by{accumulation}", "train")
        wanted = [training_depth(config, update) for update in range(12)]
        assert (
            [line["max_steps"] for line in lines]
            == [line["mean_steps"] for line in lines]
            == wanted
        )
        assert len(set(wanted)) > 3
        assert (
            metrics.read_metrics(tmp_path / f"by{accumulation}", "evaluation")[-1]["mean_steps"]
            == 6
        )
    one, four = (list(losses(tmp_path / f"by{number}").values()) for number in (1, 4))
    np.testing.assert_allclose(one, four, rtol=2e-5)


def test_a_resumed_run_draws_what_it_would_have_drawn(tmp_path):
    loop = {"max_steps": 8, "train_depth": "lognormal_poisson"}
    options = {"length": 6, "at": 44, "number": int(signal.SIGINT)}
    assert train_only(small(tmp_path, name="whole", loop=loop)) == 0
    data = {"kind": "small_runs:Signalling", "options": options}
    assert train(small(tmp_path, name="cut", loop=loop, data=data)) == 0
    assert len(losses(tmp_path / "cut")) == 6
    assert main(["--resume", str(tmp_path / "cut"), "--data.at", "1000000"]) == 0
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_backprop_through_the_last_steps_is_refused_for_rules_that_let_tokens_go(tmp_path):
    with pytest.raises(UsageError, match=r"LastSteps\(steps=3\).*GravesACT"):
        train(small(tmp_path, loop={"max_steps": 4, "backprop": "truncated_last", "last_steps": 3}))
    assert not list(tmp_path.iterdir())
