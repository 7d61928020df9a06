"""What the scripts here have in common: the task they are called for, and files written whole or not at all."""

import json
import os
from pathlib import Path

SOURCE = Path("src/textkit.py")
SPECIFICATION = Path("specs/textkit.md")


def function() -> str:
    """Return the name of the function this task is about: a key of the task in lorch.json."""
    inputs = json.loads(Path(os.environ["LORCH_INPUTS"]).read_bytes())
    return str(inputs["function"])


def write(path: Path, text: str) -> None:
    """Replace the file at once, so that a killed script leaves the old one or the new one."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
