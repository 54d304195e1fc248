"""The ponder map: the detached record of one run over some sequences, which viewers show and files
keep."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halting.errors import UsageError
from halting.maps import file as ponder_file
from halting.maps.from_trace import arrays_of
from halting.maps.grouping import grouped

if TYPE_CHECKING:
    from halting.trace import LoopTrace

IGNORE = -100
"""The target of a position at which there is no target."""

# Axes and type of every array; the order is that of the file.
_ARRAYS: dict[str, tuple[str, type[np.generic]]] = {
    "tokens": ("BL", np.int32),
    "valid": ("BL", np.bool_),
    "steps": ("BL", np.int16),
    "ponder": ("BL", np.float32),
    "mass": ("BLN", np.float32),
    "score": ("BLN", np.float32),
    "predictions": ("BLN", np.int32),
    "confidence": ("BLN", np.float32),
    "target_probability": ("BLN", np.float32),
    "targets": ("BL", np.int32),
    "final_prediction": ("BL", np.int32),
    "difficulty": ("BL", np.float32),
}
_OPTIONAL = {
    "predictions",
    "confidence",
    "target_probability",
    "targets",
    "final_prediction",
    "difficulty",
}


@dataclass(frozen=True)
class DifficultyGroup:
    """The tokens of one difficulty (or of one of ten groups, where there are more than twenty
    difficulties).

    Args:
        difficulty: their mean difficulty.
        steps: their mean executed steps.
        spread: the standard deviation of their steps.
        tokens: how many there are.
    """

    difficulty: float
    steps: float
    spread: float
    tokens: int


@dataclass(frozen=True, eq=False, repr=False)
class PonderMap:
    """What B sequences of L positions did in N loop steps. Arrays are cast to the types below, and
    shown read-only; those that have their type already are not copied.

    A file (`save`) keeps steps, ponder, difficulty and all integers exactly, the rest as
    `halting.maps.file` says.

    Args:
        tokens: [B L] int32.
        texts: B lists of L, the text of each token; anything (such as "") on padding.
        valid: [B L] bool, False on padding.
        steps: [B L] int16, executed steps; 0 on padding.
        ponder: [B L] float32, the depth that the rule means, in steps; executed steps for ACT.
        mass: [B L N] float32, the exit mass spent at each step; sums to 1 over N for valid tokens,
            0 on padding.
        score: [B L N] float32, the raw number behind each decision; NaN at steps that were not run.
        predictions: [B L N] int32, what it would have said had it stopped at that step; -1 where
            nothing was read.
        confidence: [B L N] float32, the probability of that prediction; NaN where nothing was read.
        target_probability: [B L N] float32, the probability of the right answer there; NaN where
            there is none.
        targets: [B L] int32, the right answers; `IGNORE` where there is no target.
        final_prediction: [B L] int32, the model's real output.
        difficulty: [B L] float32, how hard each token is; NaN where undefined.
        metadata: JSON values. Viewers read `run`, `task`, `rule`, `max_steps`, `difficulty_name`,
            `date` and `answers`: the text of each vocabulary entry, a list or {index: text} (keys
            become strings, as JSON has them).

    Raises:
        UsageError: shapes that don't agree, a wrong kind of number, steps beyond N, mass that
            doesn't sum to 1.
    """

    tokens: NDArray[np.int32]
    texts: list[list[str]]
    valid: NDArray[np.bool_]
    steps: NDArray[np.int16]
    ponder: NDArray[np.float32]
    mass: NDArray[np.float32]
    score: NDArray[np.float32]
    predictions: NDArray[np.int32] | None = None
    confidence: NDArray[np.float32] | None = None
    target_probability: NDArray[np.float32] | None = None
    targets: NDArray[np.int32] | None = None
    final_prediction: NDArray[np.int32] | None = None
    difficulty: NDArray[np.float32] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = dict(zip("BLN", np.shape(self.mass), strict=False))
        if len(sizes) != 3 or np.ndim(self.mass) != 3:
            raise UsageError(
                f"PonderMap: mass is {list(np.shape(self.mass))}.",
                "It gives the sizes of the map, sequences, positions and steps.",
                "Give mass as [B L N], of a batch of one too.",
            )
        for name, (axes, dtype) in _ARRAYS.items():
            given = getattr(self, name)
            if given is not None or name not in _OPTIONAL:
                object.__setattr__(
                    self, name, _checked(name, given, tuple(sizes[axis] for axis in axes), dtype)
                )
        if [len(row) for row in self.texts] != [sizes["L"]] * sizes["B"]:
            raise UsageError(
                f"PonderMap: texts are not {sizes['B']} rows of {sizes['L']} strings.",
                "Every token needs a text, as mass is [B L N].",
                "Give one string for each position, padding included.",
            )
        if self.steps.size and (
            self.steps.min() < 0 or self.steps.max() > sizes["N"] or self.steps[~self.valid].any()
        ):
            raise UsageError(
                f"PonderMap: steps run from {self.steps.min()} to {self.steps.max()}.",
                f"They must lie between 0 and N = {sizes['N']}, and be 0 on padding.",
                "Give the executed steps of the same run that gave the mass.",
            )
        wrong_sum = ~(np.abs(self.mass.sum(-1) - self.valid) <= 1e-3)  # NaN is wrong, too
        if wrong_sum.any() or (self.mass < -1e-6).any():
            raise UsageError(
                f"PonderMap: {int(wrong_sum.sum())} tokens have a mass that is no number (NaN) or "
                "doesn't sum to 1, or some is negative.",
                "Each valid token spends exactly one unit of exit mass, and padding none; a model "
                "that has diverged has no such mass.",
                "Give the mass of a LoopTrace, all steps of it, or map an earlier checkpoint.",
            )
        if isinstance(answers := self.metadata.get("answers"), dict):
            texts = {str(index): text for index, text in answers.items()}
            object.__setattr__(self, "metadata", {**self.metadata, "answers": texts})

    @property
    def num_sequences(self) -> int:
        """B."""
        return self.mass.shape[0]

    @property
    def max_steps(self) -> int:
        """N, the number of steps that the arrays have room for."""
        return self.mass.shape[-1]

    @property
    def has_target(self) -> NDArray[np.bool_]:
        """[B L]: valid tokens with a target; nowhere when there are no targets."""
        return (
            np.zeros_like(self.valid)
            if self.targets is None
            else self.valid & (self.targets != IGNORE)
        )

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[B L]: the model's output is the target; False where there is no target or no output was
        kept."""
        if self.targets is None or self.final_prediction is None:
            return np.zeros_like(self.valid)
        return self.has_target & (self.final_prediction == self.targets)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """[B L]: asked, answered, and not the target."""
        return (
            np.zeros_like(self.valid)
            if self.final_prediction is None
            else self.has_target & ~self.correct
        )

    def answer_text(self, index: int) -> str:
        """The text of a vocabulary entry, by `metadata["answers"]`; its number where there is none;
        "" for -1."""
        answers = self.metadata.get("answers")
        if index < 0:
            return ""
        if isinstance(answers, dict):
            return str(answers.get(str(index), index))
        return str(answers[index]) if answers and index < len(answers) else str(index)

    def select(self, rows: Sequence[int] | slice | NDArray[np.integer]) -> "PonderMap":
        """The map of some sequences only."""
        return self._taken(np.arange(self.num_sequences)[rows], np.arange(self.valid.shape[1]))

    def sequence(self, row: int) -> "PonderMap":
        """The map of one sequence, without its padding (so L is the number of its valid tokens)."""
        if not 0 <= row < self.num_sequences:
            raise UsageError(
                f"Sequence {row} was asked for.",
                f"The ponder map has {self.num_sequences}, counted from 0.",
                f"Name one of 0 to {self.num_sequences - 1}."
                if self.num_sequences
                else "Make a map with sequences.",
            )
        return self._taken(np.array([row]), np.flatnonzero(self.valid[row]))

    def first_tokens(self, most: int) -> "PonderMap":
        """The map without the positions from `most` on."""
        return self._taken(np.arange(self.num_sequences), np.arange(min(most, self.valid.shape[1])))

    def _taken(self, rows: NDArray[np.integer], positions: NDArray[np.integer]) -> "PonderMap":
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        taken = {
            name: None if array is None else array[rows][:, positions]
            for name, array in arrays.items()
        }
        return replace(
            self, texts=[[self.texts[row][place] for place in positions] for row in rows], **taken
        )

    def steps_by_difficulty(self) -> list[DifficultyGroup]:
        """Mean steps of the valid tokens at each difficulty, easiest first; empty where no
        difficulty is defined."""
        difficulty, steps = self._rated()
        if difficulty.size == 0:
            return []
        group = grouped(difficulty)
        members = [group == number for number in np.unique(group)]
        return [
            DifficultyGroup(
                float(difficulty[m].mean()),
                float(steps[m].mean()),
                float(steps[m].std()),
                int(m.sum()),
            )
            for m in members
        ]

    @property
    def mean_steps(self) -> float | None:
        """Mean executed steps of the valid tokens; None where there are none."""
        return float(self.steps[self.valid].mean()) if self.valid.any() else None

    @property
    def accuracy(self) -> float | None:
        """The share of right answers where something was asked; None where nothing was, or no
        output was kept."""
        if self.final_prediction is None or not self.has_target.any():
            return None
        return float(self.correct[self.has_target].mean())

    def spearman(self) -> float | None:
        """Spearman's rank correlation of difficulty and steps; None where either is unknown or
        always the same."""
        difficulty, steps = self._rated()
        if difficulty.size < 2 or np.ptp(difficulty) == 0 or np.ptp(steps) == 0:
            return None
        from scipy import stats  # here, because it is slow to import

        return float(stats.spearmanr(difficulty, steps)[0])  # pyright: ignore[reportArgumentType]

    def summary(self) -> dict[str, Any]:
        """JSON figures over the valid tokens; None where there is nothing to average (no token,
        target, difficulty)."""
        return {
            "sequences": self.num_sequences,
            "tokens": int(self.valid.sum()),
            "max_steps": self.max_steps,
            "mean_steps": self.mean_steps,
            "mean_ponder": float(self.ponder[self.valid].mean(dtype=np.float64))
            if self.valid.any()
            else None,
            "accuracy": self.accuracy,
            "spearman": self.spearman(),
            "steps_by_difficulty": [vars(group) for group in self.steps_by_difficulty()],
        }

    def _rated(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Difficulty and steps of the valid tokens that have a difficulty."""
        if self.difficulty is None:
            return np.empty(0), np.empty(0)
        rated = self.valid & np.isfinite(self.difficulty)
        return self.difficulty[rated].astype(np.float64), self.steps[rated].astype(np.float64)

    def save(self, path: str | Path) -> None:
        """Writes `<path>.npz` (numbers) and `<path>.json` (texts, metadata), whole or not at all.

        Raises:
            UsageError: metadata or texts that JSON cannot hold.
        """
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        ponder_file.write(path, ponder_file.Contents(arrays, self.texts, self.metadata))

    @classmethod
    def load(cls, path: str | Path) -> "PonderMap":
        """Reads what `save` wrote; `path` with or without `.npz` or `.json`.

        Raises:
            UsageError: a file is missing, damaged, incomplete, of another schema version, or of
                another pair.
        """
        contents = ponder_file.read_map(path)
        known = set(_ARRAYS)
        needed = set(_ARRAYS) - _OPTIONAL
        if contents.arrays.keys() - known or needed - contents.arrays.keys():
            raise ponder_file.refusal(
                path, f"its arrays are {sorted(contents.arrays)}, not {sorted(known)}"
            )
        try:
            return cls(texts=contents.texts, metadata=contents.metadata, **contents.arrays)
        except UsageError as error:
            raise ponder_file.refusal(path, str(error).rstrip(".")) from error

    @classmethod
    def from_trace(
        cls, trace: "LoopTrace", texts: Sequence[Sequence[str]], **given: Any
    ) -> "PonderMap":
        """The map of a loop of one's own, from the record that `Recurrence` returns.

        Args:
            trace: the record.
            texts: the text of each token, B lists of L or of the valid ones alone.
            given: any other field, as an array or a tensor: `targets`, `final_prediction`,
                `predictions`, `difficulty`, `metadata`, ...; `ponder` is the executed steps unless
                given (the rule's own: `rule.ponder(trace)`).

        Raises:
            UsageError: for what does not fit together.
        """
        return cls(metadata=given.pop("metadata", {}), **arrays_of(trace, texts, given))

    def to_html(self, sequences: int | None = None) -> str:
        """The page of the map, one file that needs nothing else; of its first `sequences`."""
        from halting.maps.viewers.page.page import to_html  # viewers import this file

        return to_html(self, sequences)

    def to_png(self, path: str | Path, sequence: int = 0) -> None:
        """Draws one sequence into a picture (needs matplotlib); the ending says of which kind."""
        from halting.maps.viewers.picture.map import save_map_picture

        save_map_picture(self, path, sequence)

    def __repr__(self) -> str:
        mean = "no tokens" if self.mean_steps is None else f"mean steps {self.mean_steps:.2f}"
        sizes = (
            f"{self.num_sequences} sequences, {self.valid.shape[1]} positions, {self.max_steps} "
            "steps"
        )
        given = [
            f.name
            for f in fields(self)
            if f.name in _OPTIONAL and getattr(self, f.name) is not None
        ]
        return f"PonderMap({sizes}; {mean}{'; with ' + ', '.join(given) if given else ''})"

    def __str__(self) -> str:
        from halting.maps.viewers.terminal import map as terminal  # viewers import this file

        return terminal.render(self, colour=False)

    def _repr_html_(self) -> str:
        """What a notebook shows: the first three sequences, coloured and numbered by steps."""
        from halting.maps.viewers.page.snippet import snippet

        return snippet(self, sequences=3)


def _checked(
    name: str, given: ArrayLike | None, shape: tuple[int, ...], dtype: type[np.generic]
) -> NDArray[Any]:
    """The array as a read-only view of the wanted type, or a refusal."""
    array = np.asarray(given)
    if array.shape != shape or not np.can_cast(array.dtype, dtype, "same_kind"):
        wanted = f"{list(shape)} {np.dtype(dtype).name}"
        raise UsageError(
            f"PonderMap: {name} is {list(array.shape)} {array.dtype}.",
            f"It must be {wanted}, to agree with mass [B L N].",
            f"Give {name} as {wanted}.",
        )
    view = array.astype(dtype, copy=False).view()
    if np.issubdtype(dtype, np.integer) and view.dtype != array.dtype and (view != array).any():
        raise UsageError(
            f"PonderMap: {name} runs from {array.min()} to {array.max()}.",
            f"It is kept as {np.dtype(dtype).name}, which cannot hold that.",
            f"Give {name} in smaller numbers.",
        )
    view.flags.writeable = False
    return view
