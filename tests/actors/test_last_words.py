"""The end of a run does not depend on who reads what it prints."""

import io
import sys
import threading

import pytest

from lorch_actors.actors.last_words import speak


def test_words_that_are_stuck_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time has passed, it goes on, and what is printed later goes nowhere."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    released, said, beats = threading.Event(), threading.Event(), []

    def words() -> None:
        released.wait()
        said.set()

    speak(words, lambda: beats.append(1), within_s=0.01)
    nowhere = sys.stdout
    released.set()
    said.wait(10)

    assert beats == [1]
    assert nowhere.name == "/dev/null"
    assert sys.stderr is nowhere
    nowhere.close()


def test_words_that_fail_are_told() -> None:
    """An error while printing is raised where it can be seen; a console that hung up is none."""
    with pytest.raises(ZeroDivisionError):
        speak(lambda: 1 / 0, lambda: None)

    def hung_up() -> None:
        raise BrokenPipeError

    speak(hung_up, lambda: None)
