"""One rank: goes on from checkpoints of other shapes, by the functions of the benchmark, and with
models and settings that the benchmark leaves out; rank 0 writes what was seen."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch
from tiny import Balanced, make_config, make_model, train

from act.models.looped_transformer import LoopedTransformer
from benchmarks.reshape.worker import PLAIN, Shape, go_on, save_source
from training.checkpoints import checkpoint
from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import DeepSpeedEngine, Engine, LocalEngine, start
from training.engine.checkpoint_format import OPTIMIZER, WEIGHTS

DS_CONFIGS = Path(__file__).parent.parent.parent / "ds_configs"


def frozen() -> LoopedTransformer:
    model = make_model()
    model.requires_grad_(False)
    model.recurrence.rule.requires_grad_(True)
    return model


VARIANTS: dict[str, Callable[[], LoopedTransformer]] = {
    "offloaded": make_model,
    "tied, with a rule's own state": lambda: make_model(rule=Balanced, tied=True),
    "frozen, in bfloat16": frozen,
}
PATHS = {
    "offloaded": ["zero2_offload", "zero3_offload"],
    "tied, with a rule's own state": ["zero3_cut", "zero2"],
    "frozen, in bfloat16": ["zero1", "zero3_cut"],
}


def config_path(name: str, folder: Path) -> Path:
    """A file of ds_configs/, or that with which small parameters are cut too; each rank has its
    own."""
    if not name.endswith("_cut"):
        return DS_CONFIGS / f"{name}.json"
    path = folder / f"{name}-{collectives.rank()}.json"
    path.write_text(
        json.dumps({"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}})
    )
    return path


def saved(engine: Engine, folder: Path) -> list[bytes]:
    """What an engine writes."""
    folder.mkdir(exist_ok=True)
    collectives.barrier()
    engine.save(folder)
    return [(folder / name).read_bytes() for name in (WEIGHTS, OPTIMIZER)]


def carry(folder: Path, variant: str) -> dict:
    """A model trained in its first setting and carried into its second, which trains on, and again
    from what it wrote; once from before the first update, where Adam has no moments yet."""
    found: dict = {"same": [], "resumed": []}
    precision = "bf16" if "bfloat16" in variant else "float32"
    for updates in (0, 2):
        first, second = (
            DeepSpeedEngine(
                VARIANTS[variant](), make_config(config_path(name, folder), precision=precision)
            )
            for name in PATHS[variant]
        )
        train(first, range(updates))
        written = saved(first, folder / "carried")
        second.load(folder / "carried")
        found["same"].append(saved(second, folder / "carried") == written)
        after = asdict(train(second, range(updates, updates + 2)))
        second.load(folder / "carried")  # into an engine that has moments of its own
        found["resumed"].append(asdict(train(second, range(updates, updates + 2))) == after)
    return found


def two(folder: Path) -> dict:
    save_source(Shape(2, 2), folder)
    found: dict = {
        "rows": [go_on(PLAIN, Shape(2, 0), folder), go_on(Shape(2, 2), Shape(2, 3), folder)]
    }
    found |= {variant: carry(folder, variant) for variant in VARIANTS}
    engine = LocalEngine(make_model(), make_config("unused").optimizer, torch.device("cpu"))
    try:
        engine.save(folder / "missing")
    except (OSError, RuntimeError) as error:
        found["unwritable"] = type(error).__name__
    return found


def finite_weights(folder: Path) -> list[bool]:
    """Whether weights are said to be finite: with NaN in the padding of every share, and in one
    weight of rank 1."""
    engine = DeepSpeedEngine(
        make_model(), make_config(config_path("zero3_cut", folder), batch_size=6)
    )
    said, padding = [], 0
    for parameter in engine.model.parameters():
        share = parameter.ds_tensor  # pyright: ignore[reportAttributeAccessIssue] — DeepSpeed's
        own = max(0, parameter.ds_numel - collectives.rank() * share.numel())  # pyright: ignore[reportAttributeAccessIssue]
        padding += max(0, share.numel() - own)
        share[own:] = torch.nan
    assert padding or collectives.rank() < 2, "nothing is padded"
    said.append(checkpoint.has_finite_weights(engine))
    if collectives.rank() == 1:
        next(engine.model.parameters()).ds_tensor[0] = torch.nan  # pyright: ignore[reportAttributeAccessIssue]
    said.append(checkpoint.has_finite_weights(engine))
    return said


def three(folder: Path) -> dict:
    save_source(Shape(3, 3), folder)
    rows = [go_on(Shape(2, 2), Shape(3, 3), folder)]
    return {"rows": rows, "finite": finite_weights(folder)}


def one(folder: Path) -> dict:
    return {"rows": [go_on(Shape(3, 3), Shape(1, 1), folder)]}


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    start(
        timedelta(seconds=60), cpu=True, library_log=folder / f"library_log{collectives.rank()}.log"
    )
    ranks = collectives.world_size()
    found = {1: one, 2: two, 3: three}[ranks](folder)
    (folder / f"found-{ranks}-{collectives.rank()}.json").write_text(json.dumps(found))
    leave(0)


if __name__ == "__main__":
    main()
