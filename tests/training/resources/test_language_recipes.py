"""What the dry run says of the recipes for language is what they come to, shrunk to this machine."""

import pytest
import torch
from token_folders import folder_of, texts

from benchmarks.memory.live_tensors import LiveTensors
from training.build import build_all
from training.config.model_part import ModelPart
from training.config.run_config import RunConfig
from training.engine.local import LocalEngine
from training.objectives import CrossEntropy
from training.recipes.load import load_recipe
from training.resources.dry_run import plan

RECIPES = ("lm", "lm_150m", "lm_1b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(folder_of(tmp_path_factory.mktemp("tokens") / "tokens", texts(400)))


def with_folder(name: str, folder: str, **options: int) -> RunConfig:
    recipe = load_recipe(name)
    return recipe.replace(
        data=recipe.data.replace(options={**recipe.data.options, "folder": [folder], **options})
    )


def shrunk(name: str, folder: str) -> RunConfig:
    """Its parts and depths, at a width of 32, rows of 64 and two an update; in float32 with full
    backprop, for what checkpointed backprop computes again is there in the backward pass only."""
    whole = with_folder(name, folder, length=64)
    given = whole.model.options
    heads = {"num_heads": 4, "num_kv_heads": 2} if "num_kv_heads" in given else {"num_heads": 4}
    return whole.replace(
        model=ModelPart(**{**given, "width": 32, **heads}),
        loop={"backprop": "full"},
        precision="float32",
        batch_size=2,
        accumulation=1,
        device="cpu",
    )


@pytest.mark.parametrize(
    ("name", "vocabulary", "least", "most"),
    [("lm_150m", 32_768, 150e6, 165e6), ("lm_1b", 32_768, 0.95e9, 1.05e9)],
)
def test_they_are_as_large_as_they_are_called(name, vocabulary, least, most, folder):
    config = with_folder(name, folder)
    found = plan(config).parameters
    width = config.model.width
    assert found["embeddings"] == found["output head"] == 256 * width, "a token a byte"
    assert least < found["total"] + 2 * (vocabulary - 256) * width < most


@pytest.mark.parametrize("name", RECIPES)
def test_parameters_and_memory_are_those_of_the_engine(name, folder):
    config = shrunk(name, folder)
    told = plan(config)
    torch.manual_seed(0)
    built = build_all(config)
    engine = LocalEngine(built.model, config.optimizer, torch.device("cpu"))
    weights = list(built.model.parameters())
    assert told.parameters["total"] == sum(each.numel() for each in weights)
    assert told.own.weights == sum(each.nbytes for each in weights)
    for gate in built.model.recurrence.rule.parameters():
        torch.nn.init.constant_(gate, -9.0 if gate.ndim == 1 else 0.0)  # nobody leaves early
    batch = built.task.batch("train", 0, config.batch_size)
    live = LiveTensors(weights)
    with live, torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
        output = engine.forward(batch)
    terms = CrossEntropy()(output, batch, built.cost)
    assert output.trace.num_steps == config.loop.max_steps
    assert live.bytes() == pytest.approx(told.activations.full, rel=0.1)
    engine.backward(terms.task + terms.cost)
    gradients = sum(each.grad.nbytes for each in weights if each.grad is not None)
    assert told.own.gradients == gradients
    engine.step(1e-3)
    assert told.own.optimizer == sum(
        value.nbytes
        for state in engine.optimizer.state.values()
        for value in state.values()
        if value.dim()
    )
