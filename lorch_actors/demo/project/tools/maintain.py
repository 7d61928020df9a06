"""The spec maintainer: tick the status table and write the reference. Exit code 1 asks the builder for changes."""

import ast
import re
import sys
from pathlib import Path

from task import SOURCE, SPECIFICATION, function, write

REFERENCE = Path("docs/reference.md")


def main() -> int:
    """Bring specification and reference up to date; return the exit code."""
    name = function()
    there = {
        node.name: (ast.get_docstring(node) or "").partition("\n")[0]
        for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    if name not in there:
        print(f"{SOURCE} has no function {name}, which {SPECIFICATION} describes")
        return 1
    row = re.compile(rf"^(\| {name} \|.*\|) open \|$", re.MULTILINE)
    write(SPECIFICATION, row.sub(r"\1 done |", SPECIFICATION.read_text(encoding="utf-8")))
    lines = [f"- `{each}`: {summary}\n" for each, summary in there.items()]
    write(REFERENCE, "# Reference\n\n" + "".join(lines))
    print(f"{name} is done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
