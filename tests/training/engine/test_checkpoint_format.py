"""The files that a checkpoint of an engine is made of: what is in them, and what is refused."""

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_config, make_model, train

from act.models.looped_transformer import LoopedTransformer
from halting.errors import UsageError
from training.engine import LocalEngine
from training.engine.checkpoint_format import OPTIMIZER, WEIGHTS
from training.engine.tensor_file import TensorFile, TensorShape, order


def engine_of(model: LoopedTransformer) -> LocalEngine:
    return LocalEngine(model, make_config("unused").optimizer, torch.device("cpu"))


def frozen() -> LoopedTransformer:
    model = make_model()
    model.requires_grad_(False)
    model.recurrence.rule.requires_grad_(True)
    return model


@pytest.fixture
def saved(tmp_path) -> Path:
    """What an engine wrote after three updates."""
    engine = engine_of(make_model())
    train(engine, range(3), ranks=1)
    folder = tmp_path / "saved"
    folder.mkdir()
    engine.save(folder)
    return folder


def write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    shapes = {
        name: TensorShape(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()
    }
    with TensorFile(path, shapes) as file:
        for name in order(shapes):
            file.write(name, tensors[name])


def test_tensors_written_one_by_one_are_the_bytes_of_safetensors(tmp_path):
    tensors = {
        "b.weight": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
        "a": torch.tensor([True, False, True]),
        "count": torch.tensor(7),
        "half": torch.tensor([1.5, -0.0]).bfloat16(),
        "empty": torch.zeros(0, 4),
        "z": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
    }
    write(tmp_path / "ours", tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert all(
        torch.equal(load_file(tmp_path / "ours")[name], tensor) for name, tensor in tensors.items()
    )


def test_a_tensor_that_was_not_announced_so_is_refused(tmp_path):
    shapes = {"a": TensorShape((2,)), "b": TensorShape((2,))}
    for name, tensor in (
        ("b", torch.zeros(2)),
        ("a", torch.zeros(3)),
        ("a", torch.zeros(2).double()),
    ):
        with pytest.raises(AssertionError), TensorFile(tmp_path / "file", shapes) as file:
            file.write(name, tensor)
    with (
        pytest.raises(AssertionError, match="not written"),
        TensorFile(tmp_path / "file", shapes) as file,
    ):
        file.write("a", torch.zeros(2))


def test_it_holds_weights_moments_and_steps_under_their_names(saved):
    model = make_model()
    weights, moments = load_file(saved / WEIGHTS), load_file(saved / OPTIMIZER)
    assert set(weights) == set(model.state_dict())
    names = [name for name, _ in model.named_parameters()]
    assert set(moments) == {
        f"{name}.{key}" for name in names for key in ("exp_avg", "exp_avg_sq", "step")
    }
    assert all(moments[f"{name}.step"] == 3 for name in names)
    assert moments["head.weight.exp_avg"].abs().sum() > 0


def test_an_engine_that_has_stepped_already_can_be_taken_back(saved):
    engine = engine_of(make_model())
    train(engine, range(3), ranks=1)
    first = train(engine, range(3, 5), ranks=1)
    engine.load(saved)
    assert train(engine, range(3, 5), ranks=1) == first


def test_what_is_loaded_goes_on_to_the_bit(saved):
    engine, again = engine_of(make_model()), engine_of(make_model())
    train(engine, range(3), ranks=1)
    again.load(saved)
    assert train(again, range(3, 6), ranks=1) == train(engine, range(3, 6), ranks=1)


@pytest.mark.parametrize("name", [WEIGHTS, OPTIMIZER])
def test_a_file_that_is_missing_or_cut_off_is_refused_before_anything_is_changed(saved, name):
    engine = engine_of(make_model())
    engine.model.head.weight.data.fill_(0.5)
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[:-4])
    with pytest.raises(UsageError, match=f"{name} cannot be read"):
        engine.load(saved)
    (saved / name).unlink()
    with pytest.raises(UsageError, match=f"{name} is not there"):
        engine.load(saved)
    assert engine.model.head.weight.eq(0.5).all()


def test_other_tensors_are_refused_by_name(saved, tmp_path):
    weights = load_file(saved / WEIGHTS)
    save_file({**weights, "stranger": torch.zeros(1)}, saved / WEIGHTS)
    with pytest.raises(UsageError, match="stranger is missing on one side"):
        engine_of(make_model()).load(saved)
    save_file({**weights, "head.weight": torch.zeros(1)}, saved / WEIGHTS)
    with pytest.raises(
        UsageError, match=r"head\.weight is missing on one side, or has another shape"
    ):
        engine_of(make_model()).load(saved)
    rule_alone = tmp_path / "rule"
    rule_alone.mkdir()
    engine_of(frozen()).save(rule_alone)
    with pytest.raises(
        UsageError, match=r"does not fit: embedding\.weight, of shape"
    ):  # what did not learn has no moments to go on from
        engine_of(make_model()).load(rule_alone)


def test_a_full_disk_is_told(tmp_path):
    engine, limits = engine_of(make_model()), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            engine.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
