"""The builder: put the draft of a function into the source, in place of an earlier version if there is one.

A real one would call a coding agent here. The task is in LORCH_INPUTS, what was asked to be changed in LORCH_REQUEST.
"""

import ast
import os
from pathlib import Path

from task import SOURCE, function, write


def main() -> None:
    """Build the function of this task."""
    name = function()
    draft = Path("tools/drafts", f"{name}.py")
    reworked = draft.with_suffix(".reworked.py")
    if os.environ["LORCH_ACTION"] == "implement_changes" and reworked.exists():
        print(f"asked by the {os.environ['LORCH_REQUESTED_BY']}: {os.environ['LORCH_REQUEST']}")
        draft = reworked
    source = without(SOURCE.read_text(encoding="utf-8"), name)
    write(SOURCE, f"{source.rstrip()}\n\n\n{draft.read_text(encoding='utf-8')}")
    print(f"{SOURCE} has {name} from {draft}")


def without(source: str, name: str) -> str:
    """Return the source without the function of that name."""
    lines = source.splitlines(keepends=True)
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines)


if __name__ == "__main__":
    main()
