"""What stands around the block: the loop with its rule, and the training loop around that."""

import contextlib
import os
import tempfile
from pathlib import Path

import torch

from act.loop.recurrence import Recurrence
from benchmarks.compute.bare import albert, dense_loop, encoder_layer, looped_layer, matrix_products
from benchmarks.compute.packing import step_of
from benchmarks.compute.shape import STEPS, Shape
from benchmarks.compute.timing import in_turns, ratio
from benchmarks.harness.updates import UpdatesAlone
from halting.rule import HaltingRule
from halting.rules.fixed_steps import FixedSteps
from halting.rules.graves_act import GravesACT
from training.build import build_all
from training.checkpoints.progress import Progress
from training.config.run_config import RunConfig
from training.console.screen import standard_screen
from training.engine.local import LocalEngine
from training.loop.loop import Training
from training.loop.run_limits import RunLimits
from training.recipes.load import load_recipe
from training.runs.context import TrainingContext
from training.runs.metrics import Metrics, read_metrics


def against_matrix_products(shape: Shape, repeats: int) -> list[float]:
    """A training step at fixed depth ÷ the matrix products of the same shapes."""
    loop = Recurrence(shape.plain_block(), FixedSteps(), max_steps=STEPS)
    x = shape.input()
    products = matrix_products(shape)
    step = step_of(loop, lambda: loop(x)[0], True)
    return ratio(step, lambda: [products() for _ in range(STEPS)], repeats)


def against_encoder_layer(shape: Shape, repeats: int) -> list[float]:
    """The same ÷ a looped nn.TransformerEncoderLayer."""
    loop = Recurrence(shape.plain_block(), FixedSteps(), max_steps=STEPS)
    x = shape.input()
    layer = encoder_layer(shape)
    other = step_of(layer, lambda: looped_layer(layer, x, STEPS), True)
    return ratio(step_of(loop, lambda: loop(x)[0], True), other, repeats)


def against_albert(shape: Shape, repeats: int) -> list[float] | None:
    """The same ÷ Albert with the exact GELU; None where it is not installed."""
    loop = Recurrence(shape.plain_block(), FixedSteps(), max_steps=STEPS)
    x = shape.input()
    peer = albert(shape, STEPS)
    if peer is None:
        return None
    return ratio(
        step_of(loop, lambda: loop(x)[0], True), step_of(peer, lambda: peer(x), True), repeats
    )


def fixed_steps_around_the_block(shape: Shape, training: bool, repeats: int) -> list[float]:
    """Loop, rule, trace and readout ÷ the block alone, at fixed depth."""
    return _around_the_block(shape, FixedSteps(), training, repeats)


def graves_act_around_the_block(shape: Shape, training: bool, repeats: int) -> list[float]:
    """The same for GravesACT, nobody leaving before the limit."""
    return _around_the_block(shape, GravesACT(shape.dim, bias_init=-9.0), training, repeats)


def _around_the_block(shape: Shape, rule: HaltingRule, training: bool, repeats: int) -> list[float]:
    block = shape.block()
    x = shape.input()
    loop = Recurrence(block, rule.to(shape.device), max_steps=STEPS)
    assert (loop(x)[1].steps == STEPS).all()
    return ratio(
        step_of(loop, lambda: loop(x)[0], training),
        step_of(block, lambda: dense_loop(block, x, STEPS), training),
        repeats,
    )


def training_loop(device: str, bf16: bool, repeats: int, updates: int = 4) -> list[float]:
    """An update of the training loop with LocalEngine, metrics and progress written, ÷ the same
    step in a bare PyTorch loop on the same batches: width 512, all tokens at 6 steps; under
    bfloat16 autocast where asked for."""
    config = RunConfig(
        **{
            **load_recipe("pointer_chase").model_dump(),
            "model": {"width": 512, "num_heads": 8},
            "loop": {"max_steps": 6},
            "halting": {"kind": "GravesACT", "options": {"bias_init": -9.0}},
            "batch_size": 32,
            "updates": 10**6,
            "eval_every": 10**6,
            "save_every": 10**6,
            "threads": 1,
        }
    )
    ours = build_all(config)
    bare = build_all(config)
    bare.model.to(device)
    optimizer = torch.optim.AdamW(bare.model.parameters(), lr=1e-4)
    number = 0

    def bare_updates() -> None:
        nonlocal number
        for _ in range(updates):
            batch = bare.task.batch("train", number * config.batch_size, config.batch_size).to(
                torch.device(device)
            )
            number += 1
            with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
                output = bare.model(batch.tokens, batch.valid)
            terms = bare.objective(output, batch, bare.cost)
            loss = terms.task / batch.has_target.sum() + 0.01 * terms.cost / batch.valid.sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(bare.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        metrics = Metrics(Path(folder), 0)
        engine = LocalEngine(
            ours.model, config.optimizer, torch.device(device), "bf16" if bf16 else "float32"
        )
        training = UpdatesAlone(
            TrainingContext(
                config, ours, engine, Path(folder), metrics, standard_screen(0), Progress()
            )
        )
        our_updates = _Updates(training, updates)
        above, below = in_turns((our_updates, bare_updates), repeats, least=0.0)
        metrics.close()
        assert len(read_metrics(Path(folder), "train")) == our_updates.done, (
            "each update has left its line"
        )
    return [one / other for one, other in zip(above, below, strict=True)]


class _Updates:
    """Some more updates of a training, each time that it is called."""

    def __init__(self, training: Training, updates: int):
        self.training = training
        self.updates = updates
        self.done = 0

    def __call__(self) -> None:
        self.done += self.updates
        config = self.training.config.model_copy(update={"updates": self.done})
        self.training.config = config
        self.training.limits = RunLimits(config)
        self.training.run()
