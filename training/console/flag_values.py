"""Values of flags that only some numbers can be; called before any work starts."""

from halting.errors import UsageError


def check_counts(**counts: int | None) -> None:
    """Raises UsageError for a count below one."""
    for name, value in counts.items():
        if value is not None and value < 1:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag} is {value}.", "It counts something.", f"Write {flag} 1 or more."
            )


def check_probabilities(**shares: float) -> None:
    """Raises UsageError for what is no chance between 0 and 1."""
    for name, value in shares.items():
        if not 0 < value < 1:
            raise UsageError(
                f"--{name} is {value}.",
                "It is a share: nothing can be shown at 0 or at 1.",
                f"Write --{name} between 0 and 1, such as {'0.01' if name == 'risk' else '0.95'}.",
            )
