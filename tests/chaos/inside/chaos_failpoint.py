"""Points in the program at which it can be killed: `reach` is called there, and kills once for each time the point is armed."""

import contextlib
import os
import signal


def reach(point: str) -> None:
    """Kill this process, as a power cut would, if somebody armed this point: made a file of its name."""
    with contextlib.suppress(FileNotFoundError, KeyError):
        os.unlink(os.path.join(os.environ["CHAOS_FAILPOINTS"], point))
        os.kill(os.getpid(), signal.SIGKILL)
