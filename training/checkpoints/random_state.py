"""What a rank draws from: seeded by the run and the rank, kept in checkpoints, restored from
them."""

import io
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halting.errors import UsageError

_MOST_BYTES = 1 << 22  # it takes some ten thousand


def seed_rank(seed: int, rank: int) -> None:
    """Seeds torch, numpy and Python by the run's seed and the rank, so that a run can be repeated
    whatever the process drew before, and no rank draws what another draws."""
    words = np.random.SeedSequence([seed, rank]).generate_state(2)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(words)
    random.seed(words.tobytes())


def random_state() -> dict:
    """Where the generators of this process stand, as torch.load(weights_only=True) reads it."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, words, python_gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [
            kind,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            gauss,
        ],
        "python": [version, list(words), python_gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def save_random_state(path: Path) -> None:
    """Writes down where the generators of this process stand."""
    written = io.BytesIO()  # torch's own writer hides what the system says of a failed write
    torch.save(random_state(), written)
    path.write_bytes(written.getvalue())


def read_random_state(path: Path) -> dict[str, Any]:
    """What `save_random_state` wrote. Nothing in the file is run, and one that would unpack to more
    than such a state ever takes is not unpacked.

    Raises:
        UsageError: for another file.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(part.file_size for part in packed.infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes")
        state = torch.load(path, weights_only=True)
        _ = state["torch"].dtype, [len(part) for part in (state["numpy"], state["python"])]
        return state
    except (
        OSError,
        ValueError,
        RuntimeError,
        EOFError,
        KeyError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as error:
        # torch's own words would have one run what a stranger's file says.
        says = str(error) if isinstance(error, OSError | ValueError) else "it is damaged"
        raise UsageError(
            f"{path} holds no state of random generators: {says}.",
            "With others the run would draw other numbers, and not be the same.",
            "Go on from another checkpoint of the run: --resume RUN@UPDATE",
        ) from None


def restore_random_state(state: dict) -> None:
    """Puts the generators where `random_state` found them."""
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, words, python_gauss = state["python"]
    random.setstate((version, tuple(words), python_gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
