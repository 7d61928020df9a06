"""At the terminal of a run: what counts as an answer, and where nobody is asked."""

import io

import pytest

from lorch_actors.actors.terminal import Terminal, terminal_for, verdict_of


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("y", (True, "")),
        ("Yes  it is fine", (True, "it is fine")),
        ("allow", (True, "")),
        ("n", (False, "")),
        ("DENY use what is there", (False, "use what is there")),
        ("", None),
        ("yo", None),
        ("not now", None),
        ("perhaps y", None),
    ],
)
def test_only_a_clear_word_decides(line, verdict):
    """The rest of the line is the reason; anything else is no answer."""
    assert verdict_of(line) == verdict


def test_without_a_terminal_nobody_is_asked(capsys):
    """Where output is captured, or input comes from elsewhere, a question would be seen by nobody."""
    assert terminal_for(None) is None
    assert terminal_for(io.StringIO()) is None
    assert Terminal(io.StringIO()).ask("allow it?") is False
    assert capsys.readouterr().out == ""
