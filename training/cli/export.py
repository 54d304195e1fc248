"""`ponder export`: a run's weights and what they are of, as files for elsewhere."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from halting.errors import UsageError
from training.config.run_config import RunConfig
from training.console.output_files import check_absent, write_text
from training.engine.checkpoint_format import WEIGHTS
from training.engine.tensor_file import TensorFile, TensorShape, order
from training.runs.loaded import locate, newest_run, read_config, read_weights

WHERE = ("name", "output", "accumulation", "launch")
"""What a config says of where and how a run trained, which its weights do not depend on: left out
of an export."""


@dataclass(frozen=True)
class Options:
    """A run's weights (model.safetensors) and what they are of (config.json), the same bytes
    whatever ranks and ZeRO stage trained them."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """run folder, or one of its checkpoints; the newest run if left out"""
    to: Literal["safetensors"] = "safetensors"
    """the form"""
    output: Path | None = None
    """folder to make; export, or export-update-000500 for that checkpoint, in the run folder if
    left out"""


def main(argv: Sequence[str]) -> int:
    """Exports; gives the exit code."""
    options = tyro.cli(Options, args=list(argv), prog="ponder export", description=Options.__doc__)
    given = Path(options.run) if options.run is not None else newest_run()
    home, weights = locate(given)
    output = options.output or home / (
        "export" if given == home else f"export-{weights.parent.name}"
    )
    num_parameters = export(home, weights, output)
    print(
        f"{weights}: {num_parameters:,} numbers\nwrote {output / WEIGHTS} and "
        f"{output / 'config.json'}"
    )
    return 0


def export(home: Path, weights: Path, output: Path) -> int:
    """Writes the files into a new folder, which appears when both are whole; gives how many numbers
    there are.

    Args:
        home: the run folder.
        weights: the file to export, as `run.locate` finds it.
        output: the folder.

    Raises:
        UsageError: where something stands at the output, a folder cannot be written, or the weights
            are damaged.
    """
    partial = output.with_name(f".partial-{output.name}")
    check_absent(output, partial)
    config = read_config(home)
    state = read_weights(weights)
    shapes = {
        name: TensorShape(tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()
    }
    try:
        partial.mkdir(parents=True)
        with TensorFile(partial / WEIGHTS, shapes) as file:
            for name in order(shapes):
                file.write(name, state[name])
        write_text(partial / "config.json", anywhere(config).to_json())
        partial.rename(output)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UsageError(
            f"--output {output} cannot be written: {error.strerror}.",
            "The export is a new folder with two files.",
            "Write the path of a folder that can be made: ponder export RUN --output FOLDER",
        ) from error
    return sum(tensor.numel() for tensor in state.values())


def anywhere(config: RunConfig) -> RunConfig:
    """The config without where and how it trained."""
    defaults = {
        name: RunConfig.model_fields[name].get_default(call_default_factory=True) for name in WHERE
    }
    return config.model_copy(update=defaults)
