"""Training looped Transformers: recipes, engines, checkpoints, evaluation; `load_run` reads a run back."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.runs.loaded import Run, load_run

__all__ = ["Run", "load_run"]


def __getattr__(name: str):
    # Late, so that importing one part of the package doesn't import all of it.
    if name in __all__:
        from training.runs import loaded as run

        return getattr(run, name)
    raise AttributeError(f"module 'training' has no attribute {name!r}")
