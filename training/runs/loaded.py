"""A run read back from its folder: model, task and config, ready to use."""

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from act.models.asked_losses import AskedLosses
from act.models.looped_model import LoopedModel, ModelOutput
from halting.errors import UsageError
from halting.maps.ponder_map import PonderMap
from training.build import build_model, build_task
from training.checkpoints import checkpoint, manifest
from training.config import code_trust
from training.config.device import check_device
from training.config.run_config import RunConfig
from training.console.command_text import command_text
from training.console.text_file import read_text
from training.engine.model_inputs import extra_inputs
from training.runs.data_file import read_data
from training.runs.metric_arrays import MetricArrays
from training.runs.metrics import read_metrics
from training.runs.metrics_plot import CURVES, plot_metrics
from training.runs.recording import about_run, record_map
from training.runs.run_path import RunPath
from training.tasks.task import IGNORE, Batch, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Run:
    """A trained run.

    Args:
        folder: the run folder.
        config: of the run.
        task: what it learned.
        model: in evaluation mode.
        weights: the file that its weights came from.
    """

    folder: Path
    config: RunConfig
    task: Task
    model: LoopedModel
    weights: Path

    @property
    def path(self) -> str:
        """What names these weights on a command line: RUN, or RUN@500 for those of a checkpoint."""
        update = checkpoint.update_of(self.weights.parent)
        return str(self.folder) if update is None else f"{self.folder}@{update}"

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @cached_property
    def metrics(self) -> MetricArrays:
        """What was measured when the run was read: `metrics["loss"]` of every update,
        `metrics["evaluation/accuracy"]` of every evaluation, and so on."""
        return MetricArrays(read_metrics(self.folder))

    @cached_property
    def summary(self) -> dict[str, Any] | None:
        """The final figures on the test split, as summary.json has them; None for a run that has
        not come to its end."""
        path = self.folder / "summary.json"
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_bytes())
            assert isinstance(found, dict)
            return found
        except (ValueError, AssertionError, RecursionError) as error:
            raise UsageError(
                f"{path} cannot be read: {error or 'it holds no figures by name'}.",
                "The run wrote its final figures there.",
                "Have it write them anew: "
                f"{command_text('ponder', 'train', '--resume', self.folder)}",
            ) from error

    def plot(self, *names: str) -> "Figure":
        """The curves of the run, one panel a name.

        Args:
            names: loss, accuracy, mean_steps and penalty where none is given; any other metric of
                training or evaluation.

        Raises:
            UsageError: for a name that was not measured.
        """
        return plot_metrics(self.metrics, names or CURVES, self.folder.name)

    def _repr_html_(self) -> str:
        """The run in a few words, for notebooks."""
        summary = self.summary
        rows = [
            ("task", self.config.data.kind.rpartition("/")[2]),
            ("halting rule", self.config.halting.kind.rpartition("/")[2]),
            ("weights", str(self.weights)),
        ]
        if summary is None:
            rows.append(("test figures", "none yet: the run has not come to its end"))
        else:
            of = f" of {summary['max_steps']}"
            rows += [
                ("updates", f"{summary['updates']:,}"),
                ("accuracy", f"{summary['accuracy']:.2%} of tokens, unseen"),
                ("loss", f"{summary['loss']:.4f} nats a token"),
                ("steps", f"{summary['mean_steps']:.2f}{of} a token"),
            ]
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(text)}</td></tr>"
            for name, text in rows
        )
        return f"<table><caption>{escape(self.folder.name)}</caption>{cells}</table>"

    def forward(
        self,
        batch: Batch,
        record_lens: bool = False,
        max_steps: int | None = None,
        asked: AskedLosses | None = None,
    ) -> ModelOutput:
        """The model's output for a batch, without gradient."""
        batch = batch.to(self.device)
        with torch.no_grad():
            return self.model(
                batch.tokens,
                batch.valid,
                **extra_inputs(self.model, batch, asked),
                record_lens=record_lens,
                max_steps=max_steps,
            )

    def ponder_map(self, examples: Batch | str, max_steps: int | None = None) -> PonderMap:
        """What the model did with each token.

        Args:
            examples: a batch of the run's task, or a text that its task can encode.
            max_steps: another step limit than the trained one.

        Raises:
            UsageError: for a text that is not of the task, or too long for the model.
        """
        batch = self.batch_of(examples) if isinstance(examples, str) else examples
        limit = max_steps or self.model.recurrence.max_steps
        return record_map(
            lambda given: self.forward(given, record_lens=True, max_steps=limit),
            self.model.recurrence.rule,
            self.task,
            batch,
            limit,
            about_run(self.config, self.folder.name),
        )

    def batch_of(self, text: str) -> Batch:
        """A text as a batch of one, without targets."""
        tokens = torch.tensor([self.task.encode(text)])
        if tokens.numel() == 0:
            raise UsageError(
                "The text is empty.",
                "There is no token to think about.",
                "Write at least one token.",
            )
        longest = self.model.max_length
        if longest is not None and tokens.shape[1] > longest:
            raise UsageError(
                f"The text has {tokens.shape[1]} tokens.",
                f"The model learned positions up to {longest}.",
                "Write a shorter text, or train with --model.positions rotary.",
            )
        shape = tokens.shape[:2]
        nothing = torch.full(shape, IGNORE)
        valid = torch.ones(shape, dtype=torch.bool)
        return Batch(tokens, nothing, valid, torch.full(shape, torch.nan))


def load_run(
    folder: str | Path,
    device: str | torch.device = "cpu",
    allow_changed_data: bool = False,
    *,
    trust_code: bool = False,
) -> Run:
    """Reads a run folder, one of its checkpoints or an export; its tokens leave by the rule that
    was trained.

    A task that reads files reads them once an example is asked for, and refuses those that have
    changed since the training; a text that is typed needs none.

    Args:
        folder: "runs/NAME" for the final weights (those of the last checkpoint where training has
            not finished), "runs/NAME@best" for those of the best evaluation by `--best-by`,
            "runs/NAME@500" or "runs/NAME/checkpoints/update-000500" for those of a checkpoint, or
            the folder that `ponder export` made.
        device: where the model goes.
        allow_changed_data: examples may come from other files than those of the training.
        trust_code: run what its config names outside of installed packages, whoever wrote it.
            Without it that is run only where this user has trained with it, as it stands.

    Raises:
        UsageError: for a folder that holds no run, no weights yet, damaged ones, or names code that
            is not trusted, and for a device that is not there.
    """
    device = check_device(device)
    with code_trust.trusting(trust_code):
        home, weights = locate(folder)
        config = config_of(home, weights)
    state = read_weights(weights)
    _check_sizes(config, state, home)
    task = build_task(config, read_data(home, allow_changed_data))
    model, _ = build_model(config, task)
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    checkpoint.check_same_model(shapes, wanted, weights)
    model.load_state_dict(state)
    return Run(home, config, task, model.to(device).eval(), weights)


def _check_sizes(config: RunConfig, state: dict[str, Tensor], home: Path) -> None:
    """Refuses sizes that no model with these weights can have, before one is built: it would take
    the memory, or the time, of a model that is not there.

    Raises:
        UsageError: for a width, or a number of heads or layers, above that of all weights.
    """
    if ":" in config.model.kind + config.model.block:  # what its numbers mean is not known
        return
    held = sum(tensor.numel() for tensor in state.values())
    for name, value in config.model.values().items():
        if type(value) is int and value > held:
            raise UsageError(
                f"{home / 'config.json'} says that the model's {name} is {value:,}.",
                f"Its weights are {held:,} numbers in all.",
                "Bring config.json back from a copy: it was changed after the training.",
            )


def locate(given: str | Path) -> tuple[Path, Path]:
    """The run folder, and the weights file, of a run folder or one of its checkpoints.

    Raises:
        UsageError: for a folder that holds no run, or no weights yet.
    """
    run = RunPath.parse(given)
    read_config(run.home)
    kept = run.checkpoint()
    return run.home, _final_weights(run.home) if kept is None else kept / WEIGHTS


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, by name, once each byte is known to be what was written.

    Raises:
        UsageError: for a damaged one, and for one that no manifest names.
    """
    manifest.check_file(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}.",
            "It is damaged or incomplete.",
            "Load another checkpoint of the run: they stand in its checkpoints folder.",
        ) from error


def config_of(home: Path, weights: Path) -> RunConfig:
    """The config that goes with weights: that of their run, with the rule's options that `final/`
    has beside its weights. What holds a target may be another exit than the trained one."""
    config = read_config(home)
    beside = weights.parent / "config.json"
    if weights.parent == home or not beside.is_file():
        return config
    kept = read_config(weights.parent).halting
    if kept.kind != config.halting.kind or kept.options == config.halting.options:
        return config
    return config.replace(halting=config.halting.replace(options=kept.options))


def read_config(folder: Path) -> RunConfig:
    """The config that a run folder keeps. The code that it names is imported where it is trusted.

    Raises:
        UsageError: for a folder without one, one that cannot be, and for code that is not trusted.
    """
    path = folder / "config.json"
    if not path.is_file():
        near = (
            sorted(other.parent.name for other in folder.parent.glob("*/config.json"))
            if folder.parent.is_dir()
            else []
        )
        raise UsageError(
            f"{folder} is not a run folder.",
            f"It has no config.json; the runs beside it are {', '.join(near) or 'none'}.",
            "Write the folder that ponder train made, such as runs/pointer_chase-001.",
        )
    why = "It says what was trained, and how."
    text = read_text(path, str(path), why, f"{folder}/config.json")
    with code_trust.reading(path):
        return RunConfig.from_json(text, str(path))


def newest_run(output: Path = Path("runs")) -> Path:
    """The run folder that was last trained, of those that hold weights.

    Raises:
        UsageError: when there is none.
    """
    found = sorted(output.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    newest = next((path.parent for path in reversed(found) if _has_weights(path.parent)), None)
    if newest is None:
        raise UsageError(
            f"There is no run {'with weights ' if found else ''}in {output}.",
            f"{len(found)} came to no checkpoint." if found else "Nothing has been trained here.",
            "Train one: ponder train pointer_chase",
        )
    return newest


def _has_weights(home: Path) -> bool:
    ended = (home / "final" / WEIGHTS).is_file()
    return ended or bool(checkpoint.found(home / "checkpoints"))


def _final_weights(home: Path) -> Path:
    for ended in (home, home / "final"):  # an export has them in the folder itself
        if (ended / WEIGHTS).is_file():
            return ended / WEIGHTS
    kept = checkpoint.found(home / "checkpoints")
    without = checkpoint.unfinished(home / "checkpoints")
    for path in without if kept else []:
        print(f"passed over: {path}: its {manifest.FILE} is missing", file=sys.stderr)
    if not kept:
        lost = f" ({without[-1].name} has no {manifest.FILE})" if without else ""
        raise UsageError(
            f"{home} holds no weights yet{lost}.",
            "A run has some once its first checkpoint is written.",
            "Wait for it, or train on: ponder train --resume RUN",
        )
    return kept[-1] / WEIGHTS
