"""Commands that are printed, so that they can be pasted into a shell."""

import shlex


def command_text(*words: object) -> str:
    """A command line; words that a shell would take for something else are quoted.

    Args:
        words: of the command: paths, numbers, texts.
    """
    return shlex.join(map(str, words))
