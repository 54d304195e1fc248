"""Counts that add up, and the figures that they give."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from act.models.looped_model import ModelOutput
from halting import FixedSteps, LoopTrace
from training.evaluation.tally import Tally
from training.tasks.task import IGNORE, Batch

B, L, N, V = 6, 9, 5, 7


def made(seed: int) -> tuple[ModelOutput, Batch]:
    """Anything that could come out of a model: padding, positions without a question, unknown
    difficulties."""
    draw = torch.Generator().manual_seed(seed)
    valid = torch.arange(L) < torch.randint(1, L + 1, (B, 1), generator=draw)
    steps = torch.where(valid, torch.randint(1, N + 1, (B, L), generator=draw), 0)
    mass = torch.zeros(B, L, N).scatter(
        -1, (steps - 1).clamp(min=0).unsqueeze(-1), 1.0
    ) * valid.unsqueeze(-1)
    asked = valid & (torch.rand(B, L, generator=draw) < 0.8)
    targets = torch.where(asked, torch.randint(V, (B, L), generator=draw), IGNORE)
    difficulty = torch.where(valid, torch.randint(0, 6, (B, L), generator=draw).float(), torch.nan)
    difficulty[:, -1] = torch.nan
    logits = torch.randn(B, L, V, generator=draw)
    logits = logits + 3 * torch.nn.functional.one_hot(targets.clamp(min=0), V)
    trace = LoopTrace(mass, mass, steps, valid, {})
    return ModelOutput(logits, trace, None), Batch(
        torch.zeros(B, L, dtype=torch.long), targets, valid, difficulty
    )


def tallied(*seeds: int) -> Tally:
    tally = Tally(N)
    for seed in seeds:
        tally.add(*made(seed), FixedSteps())
    return tally


def test_figures_are_those_of_a_plain_loop():
    outputs = [made(seed) for seed in range(3)]
    right, losses, steps, whole = [], [], [], []
    for output, batch in outputs:
        for row in range(B):
            answers = []
            for place in range(L):
                if batch.valid[row, place]:
                    steps.append(int(output.trace.steps[row, place]))
                if batch.targets[row, place] != IGNORE:
                    target = int(batch.targets[row, place])
                    probabilities = output.logits[row, place].double().softmax(-1)
                    losses.append(-math.log(probabilities[target]))
                    answers.append(int(output.logits[row, place].argmax()) == target)
            right += answers
            whole += [all(answers)] if answers else []
    figures = tallied(0, 1, 2).figures()
    assert figures["accuracy"] == pytest.approx(np.mean(right))
    assert figures["sequence_accuracy"] == pytest.approx(np.mean(whole))
    assert figures["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert figures["bits"] == pytest.approx(np.mean(losses) / math.log(2), rel=1e-5)
    assert figures["mean_steps"] == figures["mean_ponder"] == pytest.approx(np.mean(steps))
    assert figures["std_steps"] == pytest.approx(np.std(steps))
    assert figures["share_at_step_1"] == pytest.approx(np.mean(np.array(steps) == 1))
    together = [
        len(set(output.trace.steps[row][batch.valid[row]].tolist())) == 1
        for output, batch in outputs
        for row in range(B)
    ]
    assert figures["share_as_one"] == pytest.approx(np.mean(together)) and 0 < np.mean(together) < 1
    assert figures["share_at_max"] == pytest.approx(np.mean(np.array(steps) == N))


class HalfWay(FixedSteps):
    """Means half of the executed steps."""

    def ponder(self, trace: LoopTrace) -> Tensor:
        return trace.steps / 2 * trace.score.amax(-1)


def test_the_rank_correlations_are_scipys():
    difficulty, steps, ponder, hardest, slowest = [], [], [], [], []
    tally = Tally(N)
    for seed in range(3):
        output, batch = made(seed)
        draw = torch.Generator().manual_seed(seed)
        score = (
            torch.randint(1, 9, (B, L, 1), generator=draw) / 8
        )  # sixteenths of a step are counted exactly
        output = output._replace(trace=output.trace._replace(score=score.expand(B, L, N)))
        tally.add(output, batch, HalfWay())
        known = batch.valid & ~batch.difficulty.isnan()
        difficulty += batch.difficulty[known].tolist()
        steps += output.trace.steps[known].tolist()
        ponder += HalfWay().ponder(output.trace)[known].tolist()
        for row in range(B):
            if known[row].any():
                hardest.append(float(batch.difficulty[row][known[row]].max()))
                slowest.append(int(output.trace.steps[row].max()))
    figures = tally.figures()
    for name, wanted in (
        ("spearman_steps_difficulty", stats.spearmanr(difficulty, steps)),
        ("spearman_ponder_difficulty", stats.spearmanr(difficulty, ponder)),
        ("spearman_sequences", stats.spearmanr(hardest, slowest)),
    ):
        assert figures[name] == pytest.approx(wanted.statistic, abs=1e-12), name
    assert len({round(figures[name], 6) for name in figures if name.startswith("spearman")}) == 3


def test_a_correlation_that_is_not_defined_is_nan():
    output, batch = made(0)
    tally = Tally(N)
    constant = output.trace._replace(steps=torch.where(batch.valid, 2, 0))
    tally.add(output._replace(trace=constant), batch, FixedSteps())
    assert math.isnan(tally.figures()["spearman_steps_difficulty"])


def test_survival_is_the_share_that_runs_each_step():
    steps = torch.cat([made(seed)[0].trace.steps[made(seed)[1].valid] for seed in range(2)])
    wanted = [float((steps >= step).double().mean()) for step in range(1, N + 1)]
    np.testing.assert_allclose(tallied(0, 1).survival(), wanted)


def test_each_difficulty_has_its_steps_and_accuracy():
    output, batch = made(4)
    found = tallied(4).by_difficulty()
    for level in batch.difficulty[batch.valid].unique():
        if level.isnan():
            continue
        here = batch.valid & (batch.difficulty == level)
        row = found[str(int(level))]
        assert row["tokens"] == here.sum()
        assert row["steps"] == pytest.approx(float(output.trace.steps[here].double().mean()))
        asked = here & (batch.targets != IGNORE)
        if asked.any():
            right = output.logits.argmax(-1) == batch.targets
            assert row["accuracy"] == pytest.approx(float(right[asked].double().mean()))


def test_a_task_without_difficulty_has_no_correlation():
    output, batch = made(0)
    tally = Tally(N)
    tally.add(
        output,
        Batch(batch.tokens, batch.targets, batch.valid, torch.full((B, L), torch.nan)),
        FixedSteps(),
    )
    assert "spearman_steps_difficulty" not in tally.figures() and tally.by_difficulty() == {}
