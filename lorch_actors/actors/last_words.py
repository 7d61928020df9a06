"""What is said when everything is done, on a console that may stand still: a terminal nobody scrolls, a full pipe.

The run is over by then, and its exit code must not depend on who reads. So the last words have a time; when it has
passed they are dropped, and with them all that is still printed.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import Final

LAST_WORDS_S: Final = 3.0
STEP_S: Final = 1.0


def speak(words: Callable[[], object], beat: Callable[[], object], *, within_s: float = LAST_WORDS_S) -> None:
    """Call ``words``, which prints, and wait for it as long as that; ``beat`` is called about once a second meanwhile.

    A console that has hung up is no error. Whatever else ``words`` raises is raised here.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            words()
        except BrokenPipeError:
            return
        except BaseException as error:  # noqa: BLE001 - raised again where somebody looks
            raised.append(error)

    speaker = threading.Thread(target=run, name="last words", daemon=True)
    speaker.start()
    for _ in range(max(1, round(within_s / STEP_S))):
        beat()
        speaker.join(min(STEP_S, within_s))
        if not speaker.is_alive():
            break
    else:
        _let_go()
    if raised:
        raise raised[0]


def _let_go() -> None:
    """Print into nothing from now on: the old streams are locked by whoever is stuck in writing to them."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    sys.stderr = sys.stdout
