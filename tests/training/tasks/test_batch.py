"""Whatever a batch carries goes along, weighs as it says, and is read or refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from small_runs import small, train_only
from torch import nn
from weighted_task import WEIGHTED, Weighted

from halting import UsageError
from training.build import build_all
from training.distributed.dealing import BatchBalancer
from training.engine.model_inputs import extra_inputs
from training.evaluation.evaluate import evaluate
from training.exits.answers import Examples
from training.runs.loaded import load_run
from training.tasks.check_batch import check_batch
from training.tasks.task import IGNORE, Batch

EXTRAS = ("documents", "source", "noise_level")
CPU = torch.device("cpu")


def same(first: Batch, second: Batch) -> bool:
    ours, theirs = first.carried(), second.carried()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name].nan_to_num(-1), theirs[name].nan_to_num(-1)) for name in ours
    )


@pytest.mark.parametrize("extra", EXTRAS)
def test_rows_are_chosen_stacked_and_made_alike(extra):
    task = Weighted(extra=extra)
    whole = task.batch("train", 4, 6)
    assert {"loss_weights", extra} < whole.carried().keys()
    assert same(whole.rows(2, 5), task.batch("train", 6, 3))
    assert same(whole.pick([5, 0]), task.examples("train", [9, 4]))
    assert same(Batch.stack([whole.rows(0, 2), whole.rows(2, 6)]), whole)
    assert same(task.examples("train", [4, 900]).rows(1, 2), task.batch("train", 900, 1))
    assert same(whole.to(CPU), whole)
    assert not same(whole, task.batch("train", 5, 6))


def by_hand(task: Weighted, model: nn.Module, first: int, size: int) -> tuple[float, float]:
    """Σ weight · −ln p(target) and Σ weight, target by target."""
    batch = task.batch("train", first, size)
    assert batch.loss_weights is not None
    with torch.no_grad():
        logits = model(batch.tokens, batch.valid).logits.double()
    loss = weight = 0.0
    for row in range(size):
        for place in range(batch.targets.shape[1]):
            target = int(batch.targets[row, place])
            if target != IGNORE:
                own = float(batch.loss_weights[row, place])
                loss -= own * float(logits[row, place].log_softmax(-1)[target])
                weight += own
    return loss, weight


def weighted(folder: Path, **changes):
    return small(folder, data={"kind": WEIGHTED}, **changes)


def told(folder: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_weighted_targets_train_the_same_whatever_the_micro_batches(tmp_path):
    for accumulation in (1, 2, 8):
        config = weighted(tmp_path, name=f"by{accumulation}", accumulation=accumulation)
        assert train_only(config) == 0
    once, twice, each = (
        [line["task_loss"] for line in told(tmp_path / f"by{count}", "train")]
        for count in (1, 2, 8)
    )
    built = build_all(weighted(tmp_path))
    assert isinstance(built.task, Weighted)
    built.model.train()
    loss, weight = by_hand(built.task, built.model, 0, 8)
    assert once[0] == pytest.approx(loss / weight, rel=1e-6)
    assert twice == pytest.approx(once, rel=1e-5)
    assert each == pytest.approx(once, rel=1e-5)


def test_the_gradient_is_that_of_the_weighted_mean(tmp_path):
    built = build_all(weighted(tmp_path, penalty={"value": 0.0}))
    model = built.model.double()
    balancer = BatchBalancer(built.task, None, micro_batches=2, size=4)
    given = balancer.batches(0, CPU)
    for batch in given.batches:
        terms = built.objective(model(batch.tokens, batch.valid), batch, None)
        (terms.task / given.target_weight).backward()
    ours = [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]
    model.zero_grad()
    whole = built.task.batch("train", 0, 8)
    logits = model(whole.tokens, whole.valid).logits
    assert whole.loss_weights is not None
    places = whole.has_target.nonzero().tolist()
    weights = [float(whole.loss_weights[row, place]) for row, place in places]
    shares = [
        -weight * logits[row, place].log_softmax(-1)[whole.targets[row, place]] / math.fsum(weights)
        for weight, (row, place) in zip(weights, places, strict=True)
    ]
    torch.stack(shares).sum().backward()
    theirs = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(ours) == len(theirs) > 10
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_weights_whose_sum_is_small_still_divide(tmp_path):
    built = build_all(weighted(tmp_path))
    whole = built.task.batch("train", 0, 1)
    assert whole.loss_weights is not None

    class Faint(Weighted):
        def batch(self, split: str, index: int, size: int) -> Batch:
            carried = super().batch(split, index, size).carried()
            return Batch(**carried | {"loss_weights": carried["loss_weights"] * 1e-3})

    given = BatchBalancer(Faint(), None, 1, 1).batches(0, CPU)
    assert float(given.target_weight) == pytest.approx(1e-3 * float(whole.target_weight))
    assert float(given.target_weight) < 0.05


def test_evaluation_weighs_the_loss_and_not_the_accuracy(tmp_path):
    assert train_only(weighted(tmp_path, name="run")) == 0
    run = load_run(tmp_path / "run")
    figures = evaluate(run, run.task, "train", 8, 4).figures()
    assert isinstance(run.task, Weighted)
    loss, weight = by_hand(run.task, run.model, 0, 8)
    assert figures["loss"] == pytest.approx(loss / weight, rel=1e-5)
    batch = run.task.batch("train", 0, 8)
    right = run.forward(batch).logits.argmax(-1) == batch.targets
    assert figures["accuracy"] == pytest.approx(float(right[batch.has_target].double().mean()))


def test_a_resumed_run_weighs_on_to_the_bit(tmp_path):
    config = weighted(tmp_path, name="halves", keep_last=9)
    assert train_only(config) == 0
    whole = [line["loss"] for line in told(tmp_path / "halves", "train")]
    assert len(whole) == 12
    for path in (tmp_path / "halves" / "checkpoints").iterdir():
        if path.name > "update-000004":
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    assert train_only(config, tmp_path / "halves") == 0
    assert [line["loss"] for line in told(tmp_path / "halves", "train")] == whole


@pytest.mark.parametrize("extra", [extra for extra in EXTRAS if extra != "documents"])
def test_what_no_model_reads_is_refused_before_a_folder_is_there(tmp_path, extra):
    config = small(tmp_path, data={"kind": WEIGHTED, "options": {"extra": extra}})
    with pytest.raises(UsageError, match=f"carry {extra}, which LoopedTransformer does not read"):
        train_only(config)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_reads_a_field_gets_it():
    class Reads(nn.Module):
        def forward(self, tokens, valid, *, source, source_valid):
            return source

    batch = Weighted(extra="source").batch("train", 0, 2)
    extra = extra_inputs(Reads(), batch)
    assert Reads()(batch.tokens, batch.valid, **extra) is batch.source
    assert extra.keys() == {"source", "source_valid"}
    with pytest.raises(UsageError, match="carry noise_level, which Reads does not read"):
        extra_inputs(Reads(), Weighted(extra="noise_level").batch("train", 0, 2))


def test_examples_that_differ_in_what_is_read_have_other_fingerprints():
    plain, sourced = (
        Examples.of(Weighted(extra=extra), "test", 0, 4, 2).fingerprint()
        for extra in ("", "source")
    )
    assert plain == Examples.of(Weighted(), "test", 0, 4, 4).fingerprint()
    assert plain != sourced


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"loss_weights": torch.ones(2, 3)}, r"loss_weights of shape \[2, 3\]"),
        ({"noise_level": torch.ones(2, 1)}, r"noise_level of shape \[2, 1\]"),
        ({"source": torch.ones(2, 5).long()}, "source alone"),
        (
            {"source": torch.ones(2, 5).long(), "source_valid": torch.ones(2, 4).bool()},
            r"source_valid of shape \[2, 4\]",
        ),
        ({"loss_weights": torch.full((2, 8), -1.0)}, "from -1.0"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(changed, says):
    fields = Weighted(digits=3).batch("train", 0, 2).carried()
    length = fields["tokens"].shape[1]
    if tuple(changed.get("loss_weights", torch.ones(0)).shape) == (2, 8):
        changed = {"loss_weights": torch.full((2, length), -1.0)}
    with pytest.raises(UsageError, match=says):
        check_batch(Batch(**fields | changed), "Weighted")
