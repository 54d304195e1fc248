"""A training that starts from an earlier run's weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from act.models.looped_model import LoopedModel
from halting.errors import UsageError
from training.config.model_part import ModelPart
from training.config.record import flag_name
from training.config.run_config import RunConfig
from training.runs.data_file import DATA, read_data
from training.runs.loaded import locate, read_config, read_weights
from training.tasks.task import Task

_RULE = "recurrence.rule."
_EXCHANGED = (_RULE, "recurrence.readout.")
"""Where a run may hold other parameters than the one that it starts from."""


@dataclass(frozen=True)
class Start:
    """What a model gets before its first update.

    Args:
        source: the file.
        weights: tensors by name.
        fresh: those of the model that the file has none for; they keep their initialisation.
        left: those of the file that the model has no use for.
        task: that of the earlier run, where this one has another.
    """

    source: Path
    weights: dict[str, Tensor]
    fresh: tuple[str, ...]
    left: tuple[str, ...]
    task: str | None = None

    def load_into(self, model: nn.Module) -> None:
        """Puts the weights into a model, whole on every rank."""
        model.load_state_dict(self.weights, strict=False)

    def says(self) -> str:
        """What was taken, and what was not, for the screen."""
        parts = [f"starting from {self.source}"]
        if self.task is not None:
            parts.append(f"trained on {self.task}, whose tokens may mean something else there")
        parts += [f"new here, as initialised: {', '.join(self.fresh)}"] if self.fresh else []
        parts += [f"not taken from there: {', '.join(self.left)}"] if self.left else []
        return "\n  ".join(parts)


def read_start(config: RunConfig, model: LoopedModel, task: Task) -> Start:
    """The weights that `start_from` names, checked against what was built from the config.

    The rule's own are taken only if it is of the same class as there: another class may give the
    same name to something else.

    Raises:
        UsageError: for a folder that holds no run or no weights, a model of another shape, a
            parameter of another size, and tokens that meant something else.
    """
    assert config.start_from is not None
    home, source = locate(Path(config.start_from))
    there = read_config(home)
    _check_same_shape(there.model, config.model, home)
    _check_same_vocabulary(home, config, task)
    same_rule = there.halting.kind == config.halting.kind
    found = read_weights(source)
    wanted = model.state_dict()
    taken = {name: tensor for name, tensor in found.items() if name in wanted}
    taken = {
        name: tensor for name, tensor in taken.items() if same_rule or not name.startswith(_RULE)
    }
    fresh, left = (tuple(name for name in names if name not in taken) for names in (wanted, found))
    for name in (*fresh, *left):
        if not name.startswith(_EXCHANGED):
            _refuse(source, name, _shape(found.get(name)), _shape(wanted.get(name)))
    for name, tensor in taken.items():
        if tensor.shape != wanted[name].shape:
            _refuse(source, name, _shape(tensor), _shape(wanted[name]))
    other = None if there.data.kind == config.data.kind else there.data.kind
    return Start(source, taken, fresh, left, other)


def _check_same_shape(there: ModelPart, here: ModelPart, home: Path) -> None:
    old = {"kind": there.kind, "block": there.block, **there.values()}
    new = {"kind": here.kind, "block": here.block, **here.values()}
    for name in old:
        if old[name] != new.get(name):
            flag = flag_name("model", name)
            raise UsageError(
                f"--start-from {home} has {flag} {old[name]}; here it is {new.get(name)}.",
                "Weights mean something else in a model of another shape.",
                f"Write {flag} {old[name]}, or start from another run.",
            )


def _check_same_vocabulary(home: Path, config: RunConfig, task: Task) -> None:
    """Refuses weights of tokens that were numbered otherwise: as many, but not the same words."""
    kept = read_data(home)
    if kept is None or kept.vocabulary is None:
        return
    if kept.kind != config.data.kind or kept.vocabulary == _as_json(task.vocabulary()):
        return
    raise UsageError(
        f"--start-from {home} has another vocabulary than the data here.",
        f"Its weights know the tokens of {home / DATA} by number; here the same numbers are other "
        "words.",
        "Start from a run that was trained on the same vocabulary, or train from scratch.",
    )


def _as_json(values: Any) -> Any:
    return json.loads(json.dumps(values))


def _refuse(source: Path, name: str, there: str, here: str) -> None:
    raise UsageError(
        f"{source} does not fit: parameter {name} is {there} there and {here} here.",
        "Sizes come from the task and from the options of rule and readout.",
        "Start from a run with the same ones, or train from scratch.",
    )


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(list(tensor.shape))
