"""One rank: trains the halting rule of a frozen model under every ZeRO stage; rank 0 writes what
was seen."""

import json
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch
from tiny import make_config, make_model, train

from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import DeepSpeedEngine, LocalEngine, start

UPDATES, SAVED_AT = 6, 4


def frozen_model():
    model = make_model()
    model.requires_grad_(False)
    model.recurrence.rule.requires_grad_(True)
    return model


def run_stage(folder: Path, stage: int, reference: LocalEngine) -> dict:
    # Without the threshold, so small a model stays whole on every rank and stage 3 is never
    # exercised.
    section = {"stage": stage, **({"stage3_param_persistence_threshold": 0} if stage == 3 else {})}
    path, saved = folder / f"zero{stage}.json", folder / f"saved{stage}"
    path.write_text(json.dumps({"zero_optimization": section}))
    saved.mkdir(exist_ok=True)
    collectives.barrier()
    engine = DeepSpeedEngine(frozen_model(), make_config(path))
    found: dict = {"before": asdict(train(engine, range(SAVED_AT)))}
    engine.save(saved)
    found["after"] = asdict(train(engine, range(SAVED_AT, UPDATES)))
    weights, start_weights, trained = (
        engine.weights(),
        make_model().state_dict(),
        reference.weights(),
    )
    found["moved"] = sorted(
        name for name in weights if not torch.equal(weights[name], start_weights[name])
    )
    found["apart"] = max(
        (float((weights[name] - trained[name]).abs().max()) for name in weights), default=0.0
    )
    resumed = DeepSpeedEngine(frozen_model(), make_config(path))
    resumed.load(saved)
    found["resumed"] = asdict(train(resumed, range(SAVED_AT, UPDATES)))
    return found


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    start(
        timedelta(seconds=60), cpu=True, library_log=folder / f"library_log{collectives.rank()}.log"
    )
    reference = LocalEngine(frozen_model(), make_config("unused").optimizer, torch.device("cpu"))
    found: dict = {"reference": asdict(train(reference, range(UPDATES), ranks=2))}
    found |= {str(stage): run_stage(folder, stage, reference) for stage in range(4)}
    if collectives.rank() == 0:
        (folder / "found.json").write_text(json.dumps(found))
    leave(0)


if __name__ == "__main__":
    main()
