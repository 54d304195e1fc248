"""How a command that may have been a rank ends its process. Imports nothing heavy: `--help` comes
here too."""

import sys
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """Ends this process: a rank without Python's teardown (`process_group.leave`), whether a
    launcher started it or it was alone under DeepSpeed; every other command as Python does.

    Args:
        code: the exit code.
    """
    group = sys.modules.get("training.distributed.process_group")
    if group is not None and (group.was_started() or group.under_launcher()):
        group.leave(code)
    sys.exit(code)
