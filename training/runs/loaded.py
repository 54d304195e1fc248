"""A run read back from its folder: model, task and config, ready to use."""

import json
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from act.models.looped_model import LoopedModel, ModelOutput
from halting.errors import UsageError
from halting.maps.ponder_map import PonderMap
from training.build import build_all
from training.checkpoints import checkpoint
from training.config.run_config import RunConfig
from training.console.text_file import read_text
from training.engine.model_inputs import extra_inputs
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
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

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
        self, batch: Batch, record_lens: bool = False, max_steps: int | None = None
    ) -> ModelOutput:
        """The model's output for a batch, without gradient."""
        batch = batch.to(self.device)
        with torch.no_grad():
            return self.model(
                batch.tokens,
                batch.valid,
                **extra_inputs(self.model, batch),
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


def load_run(folder: str | Path, device: str | torch.device = "cpu") -> Run:
    """Reads a run folder, or one of its checkpoints; its tokens leave by the rule that was trained.

    Args:
        folder: "runs/NAME" for the final weights (those of the last checkpoint where training has
            not finished), "runs/NAME@best" for those of the best evaluation by `--best-by`, or
            "runs/NAME@500" or "runs/NAME/checkpoints/update-000500" for those of a checkpoint.
        device: where the model goes.

    Raises:
        UsageError: for a folder that holds no run, no weights yet, or damaged ones.
    """
    home, weights = locate(folder)
    config = read_config(home)
    state = read_weights(weights)
    built = build_all(config)
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    wanted = {name: list(tensor.shape) for name, tensor in built.model.state_dict().items()}
    checkpoint.check_same_model(shapes, wanted, weights)
    built.model.load_state_dict(state)
    return Run(home, config, built.task, built.model.to(device).eval(), weights)


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
    """The tensors of a weights file, by name.

    Raises:
        UsageError: for a damaged one.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}.",
            "It is damaged or incomplete.",
            "Load another checkpoint of the run: they stand in its checkpoints folder.",
        ) from error


def read_config(folder: Path) -> RunConfig:
    """The config that a run folder keeps.

    Raises:
        UsageError: for a folder without one, and one that cannot be.
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
    return RunConfig.from_json(read_text(path, str(path), why, f"{folder}/config.json"), str(path))


def newest_run(output: Path = Path("runs")) -> Path:
    """The run folder that was last trained.

    Raises:
        UsageError: when there is none.
    """
    found = sorted(output.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError(
            f"There is no run in {output}.",
            "Nothing has been trained here.",
            "Train one: ponder train pointer_chase",
        )
    return found[-1].parent


def _final_weights(home: Path) -> Path:
    final = home / "final" / WEIGHTS
    if final.is_file():
        return final
    kept = checkpoint.found(home / "checkpoints")
    if not kept:
        raise UsageError(
            f"{home} holds no weights yet.",
            "A run has some once its first checkpoint is written.",
            "Wait for it, or train on: ponder train --resume RUN",
        )
    return kept[-1] / WEIGHTS
