"""Functions for short pieces of text."""

import re


def squeeze(text: str) -> str:
    """Return the text with every run of white space as one space, and none at its ends."""
    return re.sub(r"\s+", " ", text).strip()
