"""Plausible ponder maps for tests of the map and its viewers, fabricated without any model."""

from dataclasses import replace

import numpy as np

from halting.maps.ponder_map import IGNORE, PonderMap


def fabricate(
    batch: int = 4, length: int = 16, max_steps: int = 10, vocabulary: int = 16, seed: int = 0
) -> PonderMap:
    """A map in the manner of pointer chasing: difficulty grows along the sequence, steps follow it,
    halting is geometric in each token's own hazard, some answers are wrong, and the last sequences
    are padded at the end."""
    random = np.random.default_rng(seed)
    difficulty = np.sort(random.integers(0, max_steps - 3, (batch, length)), -1).astype(np.float32)
    lengths = random.integers(max(length // 2, 1), length + 1, batch)
    lengths[0] = length
    valid = np.arange(length) < lengths[:, None]
    number = np.arange(1, max_steps + 1)
    hazard = 1 / (
        1 + np.exp(difficulty[..., None] + 2 - number + random.normal(0, 0.4, (batch, length, 1)))
    )
    survived = np.cumprod(1 - hazard, -1)
    steps = 1 + (survived[..., :-1] > 0.05).sum(-1)  # leaves once a twentieth of the mass is left
    ran = (number <= steps[..., None]) & valid[..., None]
    before = np.concatenate([np.ones_like(hazard[..., :1]), survived[..., :-1]], -1)
    mass = np.where(number == steps[..., None], before, before * hazard) * ran
    tokens = random.integers(0, vocabulary, (batch, length))
    targets = np.where(valid, random.integers(0, vocabulary, (batch, length)), IGNORE)
    sure = 1 / (
        1
        + np.exp(1.4 * (difficulty[..., None] + 1.5 - number) + random.normal(0, 0.3, hazard.shape))
    )
    right = np.where(ran, 1 / vocabulary + (1 - 1 / vocabulary) * sure, np.nan)
    guess = random.integers(0, vocabulary, hazard.shape)
    predictions = np.where(ran, np.where(right > 0.5, targets[..., None], guess), -1)
    final = np.take_along_axis(predictions, np.maximum(steps - 1, 0)[..., None], -1)[..., 0]
    slip = random.random((batch, length)) < 0.06
    return PonderMap(
        tokens=np.where(valid, tokens, 0),
        texts=[
            [str(token) if is_valid else "" for token, is_valid in zip(*row, strict=True)]
            for row in zip(tokens, valid, strict=True)
        ],
        valid=valid,
        steps=np.where(valid, steps, 0),
        ponder=np.where(valid, steps, 0).astype(np.float32),
        mass=mass.astype(np.float32),
        score=np.where(ran, hazard, np.nan).astype(np.float32),
        predictions=predictions,
        confidence=np.where(ran, np.maximum(right, 1 - right), np.nan).astype(np.float32),
        target_probability=right.astype(np.float32),
        targets=targets,
        final_prediction=np.where(slip & valid, (targets + 1) % vocabulary, final),
        difficulty=np.where(valid, difficulty, np.nan),
        metadata={
            "run": "pointer_chase-001",
            "task": "pointer_chase",
            "rule": "GravesACT",
            "difficulty_name": "hops",
        },
    )


def fabricate_text(text: str, max_steps: int = 8, seed: int = 0) -> PonderMap:
    """One sequence of single characters, without targets or difficulty: words begin slowly, and go
    on fast."""
    random = np.random.default_rng(seed)
    starts = np.array([not text[max(place - 1, 0)].isalnum() for place in range(len(text))])
    steps = np.clip(random.poisson(np.where(starts, 4, 1.2)) + 1, 1, max_steps)[None]
    number = np.arange(1, max_steps + 1)
    mass = (number == steps[..., None]).astype(np.float32)
    right = 1 - np.exp(-(number / random.uniform(1, 5, (1, len(text), 1))))
    return PonderMap(
        tokens=np.array([[ord(character) for character in text]]),
        texts=[list(text)],
        valid=np.ones((1, len(text)), bool),
        steps=steps,
        ponder=steps.astype(np.float32),
        mass=mass,
        score=np.where(number <= steps[..., None], 0.5, np.nan).astype(np.float32),
        target_probability=np.where(number <= steps[..., None], right, np.nan).astype(np.float32),
        metadata={"run": "lm-001", "task": "lm", "rule": "ConvergenceExit"},
    )


def with_texts(texts: list[str]) -> PonderMap:
    """One sequence of these tokens, as `fabricate_text` makes it."""
    return replace(fabricate_text("x" * len(texts)), texts=[texts])


def empty(batch: int = 0, length: int = 0, max_steps: int = 4) -> PonderMap:
    """A map of padding alone."""
    grid, cube = np.zeros((batch, length)), np.zeros((batch, length, max_steps), np.float32)
    whole = grid.astype(np.int32)
    return PonderMap(
        whole,
        [[""] * length] * batch,
        grid.astype(bool),
        whole,
        grid.astype(np.float32),
        cube,
        cube,
    )


def small() -> PonderMap:
    """Two sequences, "1 0 1" and "0" padded, the second token wrong."""
    steps = np.array([[1, 2, 10], [3, 0, 0]])
    mass = (np.arange(1, 11) == steps[..., None]).astype(np.float32)
    return PonderMap(
        tokens=steps,
        texts=[["1", "0", "1"], ["0", "", ""]],
        valid=steps > 0,
        steps=steps,
        ponder=steps * 1.0,
        mass=mass,
        score=mass,
        targets=np.array([[1, 0, 1], [0, 0, 0]]),
        final_prediction=np.array([[1, 1, 1], [0, 0, 0]]),
        difficulty=np.array([[0.0, 1, 5], [1, np.nan, np.nan]]),
        metadata={
            "run": "parity-001",
            "task": "parity",
            "rule": "GravesACT",
            "difficulty_name": "ones",
        },
    )


def by_hand() -> PonderMap:
    """Four tokens in two sequences, 1 3 4 | 2 steps, the third not asked; what each would have said
    at its steps: 5 | 6 5 5 | 5 6 7 8 | 6 5, the right answer 5 always; the last token had it wrong,
    then right, and the output says 6."""
    steps = np.array([[1, 3, 4], [2, 0, 0]])
    number = np.arange(1, 5)
    said = np.full((2, 3, 4), -1)
    said[0, 0, :1], said[0, 1, :3], said[0, 2], said[1, 0, :2] = (
        [5],
        [6, 5, 5],
        [5, 6, 7, 8],
        [5, 6],
    )
    chance = np.full((2, 3, 4), np.nan)
    chance[0, 0, :1], chance[0, 1, :3], chance[1, 0, :2] = [0.9], [0.1, 0.6, 0.5], [0.3, 0.4]
    targets = np.where(steps > 0, 5, IGNORE)
    targets[0, 2] = IGNORE
    return PonderMap(
        tokens=np.array([[1, 2, 1], [2, 0, 0]]),
        texts=[["a", "b", "a"], ["b", "", ""]],
        valid=steps > 0,
        steps=steps,
        ponder=steps / 2,
        mass=(number == steps[..., None]).astype(np.float32),
        score=np.where(number <= steps[..., None], number / 4, np.nan),
        predictions=said,
        confidence=np.where(number <= steps[..., None], 0.75, np.nan),
        target_probability=chance,
        targets=targets,
        final_prediction=np.array([[5, 5, 8], [6, 0, 0]]),
        difficulty=np.array([[0.0, 2, 2], [0, np.nan, np.nan]]),
    )
