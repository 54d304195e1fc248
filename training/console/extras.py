"""Packages that only some uses need: what `pip install 'ponderloop[NAME]'` brings."""

import importlib.util

from halting.errors import UsageError

_PACKAGES = {
    "deepspeed": ("deepspeed", "ZeRO, offload, the monitors and several ranks are DeepSpeed's"),
    "bpe": ("tokenizers", "It trains and runs the vocabularies of corpora"),
    "datasets": ("datasets", "It fetches data sets from the Hugging Face hub, row by row"),
    "parquet": ("pyarrow", "It reads Parquet files, column by column"),
    "zstd": ("zstandard", "It unpacks .zst files"),
    "tune": ("optuna", "Optuna keeps a sweep's trials, and draws from its ranges"),
}
"""Of each extra that a command may lack: the package that it stands on, and what that does."""


def check_extra(extra: str, asked: str) -> None:
    """Looks for the package of an extra, without importing it.

    Args:
        extra: one of ponderloop's, such as "tune".
        asked: what needs it, as the user wrote it.

    Raises:
        UsageError: where it is not installed.
    """
    package, reason = _PACKAGES[extra]
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            f"{asked} needs the package {package}, which is not installed.",
            f"{reason}; a plain install leaves it out, as most uses don't need it.",
            f"Write pip install 'ponderloop[{extra}]'.",
        )
