"""A training of nothing but updates."""

from training.loop.loop import Training


class UpdatesAlone(Training):
    """What a run does now and then beside its updates has its own price, and is left out."""

    def evaluate(self, last: bool) -> bool:
        """Not now, and so nothing has collapsed."""
        return False

    def save(self) -> None:
        """Not now."""

    def is_sound(self) -> bool:
        """Nobody asks."""
        return True
