"""The ponder map of one fixed example, shown while a run trains: the staircase appearing."""

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.terminal import map as terminal
from training.console.screen import Screen

_MOST_TOKENS = 64


def show_fixed_example(found: PonderMap, screen: Screen) -> None:
    """The first sequence of a map, on the first rank's screen."""
    if screen.out is None:
        return
    one = found.sequence(0).first_tokens(_MOST_TOKENS)
    text = terminal.render(
        one, 1, width=screen.width, colour=screen.colour, ascii_only=not screen.unicode, heading=False
    )
    screen.say(text + "\n")
