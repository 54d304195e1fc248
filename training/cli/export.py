"""`ponder export`: a run's weights and what they are of, as files for elsewhere."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from halting.errors import UsageError
from training.checkpoints import manifest
from training.config.run_config import RunConfig
from training.console.output_files import cannot_write, check_outputs, write_text
from training.engine.checkpoint_format import WEIGHTS
from training.engine.tensor_file import TensorFile, TensorShape, order
from training.runs.data_file import DATA
from training.runs.loaded import config_of, locate, newest_run, read_weights

WHERE = ("name", "output", "accumulation", "launch", "deepspeed")
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
    overwrite: bool = False
    """replace an export that is there already"""


def main(argv: Sequence[str]) -> int:
    """Exports; gives the exit code."""
    options = tyro.cli(Options, args=list(argv), prog="ponder export", description=Options.__doc__)
    given = Path(options.run) if options.run is not None else newest_run()
    home, weights = locate(given)
    output = options.output or home / (
        "export" if given == home else f"export-{weights.parent.name}"
    )
    num_parameters = export(home, weights, output, options.overwrite)
    print(
        f"{weights}: {num_parameters:,} numbers\nwrote {output / WEIGHTS}, "
        f"config.json and {manifest.FILE} beside it; load_run and every verb read the folder"
    )
    return 0


def export(home: Path, weights: Path, output: Path, overwrite: bool = False) -> int:
    """Writes the files into a new folder, which appears when all are whole; gives how many numbers
    there are.

    Args:
        home: the run folder.
        weights: the file to export, as `run.locate` finds it.
        output: the folder.
        overwrite: an export that is there may be replaced.

    Raises:
        UsageError: where something stands at the output, a folder cannot be written, or the weights
            are damaged.
    """
    _check_folder(output, overwrite)
    config = config_of(home, weights)
    state = read_weights(weights)
    shapes = {
        name: TensorShape(tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()
    }
    partial = output.with_name(f".partial-{os.getpid()}-{output.name}")
    replaced = output.with_name(f".replaced-{os.getpid()}-{output.name}")
    try:
        partial.mkdir(parents=True)
        with TensorFile(partial / WEIGHTS, shapes) as file:
            for name in order(shapes):
                file.write(name, state[name])
        write_text(partial / "config.json", anywhere(config).to_json())
        if (home / DATA).is_file():
            shutil.copyfile(home / DATA, partial / DATA)
        manifest.write(partial)
        if output.exists():
            output.rename(replaced)
        partial.rename(output)
    except OSError as error:
        raise cannot_write(output, error) from error
    finally:
        for left in (partial, replaced):
            shutil.rmtree(left, ignore_errors=True)
    return sum(tensor.numel() for tensor in state.values())


def _check_folder(output: Path, overwrite: bool) -> None:
    """Raises UsageError where something stands that is no export to be replaced."""
    if output.is_dir():
        names = {path.name for path in output.iterdir()}
        if not overwrite or not names <= {WEIGHTS, "config.json", DATA, manifest.FILE}:
            raise UsageError(
                f"{output} exists already.",
                "Only an export that holds nothing else is replaced, by --overwrite.",
                "Write the path of a folder that can be made: ponder export RUN --output FOLDER",
            )
    else:
        check_outputs(output)


def anywhere(config: RunConfig) -> RunConfig:
    """The config without where and how it trained."""
    defaults = {
        name: RunConfig.model_fields[name].get_default(call_default_factory=True) for name in WHERE
    }
    return config.model_copy(update=defaults)
