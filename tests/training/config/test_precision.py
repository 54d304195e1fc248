"""The named precisions: what each refuses, the loss scale of fp16 and its state in the
checkpoint."""

import typing

import pytest
import torch
from small_runs import small

from act.models.looped_transformer import LoopedTransformer
from halting import GravesACT, UsageError
from training.config.precision import ARITHMETIC, Precision, check_precision
from training.config.sections import OptimizerConfig
from training.engine import LocalEngine
from training.engine.loss_scale import LossScale
from training.start import train

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_every_choice_has_an_arithmetic():
    assert set(ARITHMETIC) == set(typing.get_args(Precision))


@pytest.mark.parametrize(
    ("precision", "device", "deepspeed", "says"),
    [
        ("fp16", CPU, False, ("fp16 on a CPU", "--precision float32")),
        ("fp16", CPU, True, ("fp16 on a CPU",)),
        ("bf16_weights", GPU, False, ("without --deepspeed-config", "--precision bf16")),
        ("bf16_weights", CPU, True, None),
        ("fp16", GPU, False, None),
        ("fp16", GPU, True, None),
        ("bf16", CPU, False, None),
    ],
)
def test_refused_where_it_cannot_be(precision, device, deepspeed, says):
    if says is None:
        check_precision(precision, device, deepspeed)
        return
    with pytest.raises(UsageError) as refused:
        check_precision(precision, device, deepspeed)
    assert all(part in str(refused.value) for part in says)


@pytest.mark.parametrize("precision", ["fp16", "bf16_weights"])
def test_refused_before_a_folder_is_made(tmp_path, precision):
    with pytest.raises(UsageError, match=precision):
        train(small(tmp_path, name="run", precision=precision, device="cpu"))
    assert not (tmp_path / "run").exists()


def test_the_loss_scale_moves_as_torchs_own():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=3)  # pyright: ignore[reportPrivateImportUsage]
    ours = LossScale(scale=2.0**8, window=3)
    generator, seen = torch.Generator().manual_seed(0), set()
    for _ in range(60):
        overflows = float(torch.rand((), generator=generator)) < 0.2
        theirs.scale(weight.sum()).backward()
        weight.grad = torch.full((1,), torch.inf if overflows else 1.0)
        theirs.step(optimizer)
        theirs.update()
        ours.update(overflows)
        assert ours.scale == theirs.get_scale()
        seen.add(ours.scale)
    assert len(seen) > 3


def test_the_loss_scale_has_bounds():
    scale = LossScale(scale=2.0, window=1, most=8.0)
    assert [scale.update(True) or scale.scale for _ in range(3)] == [1.0, 1.0, 1.0]
    assert [scale.update(False) or scale.scale for _ in range(4)] == [2.0, 4.0, 8.0, 8.0]


def engine() -> LocalEngine:
    torch.manual_seed(0)
    model = LoopedTransformer(5, 8, 2, GravesACT(8), max_steps=2)
    return LocalEngine(model, OptimizerConfig(), CPU, "fp16")


def one_update(of: LocalEngine, factor: float = 1.0) -> bool:
    with ARITHMETIC["fp16"].around(CPU):
        loss = of.model(torch.arange(4)[None]).logits.float().logsumexp(-1).mean() * factor
    of.backward(loss)
    return of.step(1e-2).skipped


def test_an_overflow_halves_the_scale_and_a_checkpoint_keeps_it(tmp_path):
    first, second = engine(), engine()
    assert first.scale == 2.0**16
    assert [one_update(first), one_update(first, 1e38), one_update(first)] == [False, True, False]
    assert first.scale == 2.0**15
    first.save(tmp_path)
    second.load(tmp_path)
    assert (
        first.loss_scale == second.loss_scale
        and second.loss_scale is not None
        and second.loss_scale.good == 1
    )
    for each in (first, second):
        assert not one_update(each)
    assert all(
        torch.equal(first.weights()[name], after) for name, after in second.weights().items()
    )


def test_a_loss_scale_that_cannot_be_read_is_named(tmp_path):
    LossScale(scale=4.0).save(tmp_path)
    scale = LossScale()
    scale.load(tmp_path / "nowhere")  # a run that was in float32 before
    assert scale.scale == 2.0**16
    (tmp_path / "loss_scale.json").write_text('{"scale": 4.0')
    with pytest.raises(UsageError, match=r"loss_scale\.json cannot be read"):
        scale.load(tmp_path)
