"""The reviewer: read the source and name what breaks the house rules. Exit code 0 approves, 1 asks for changes."""

import ast
import sys

from task import SOURCE

LONGEST_LINE = 120


def main() -> int:
    """Review the source; return the exit code."""
    findings = review(SOURCE.read_text(encoding="utf-8"))
    for finding in findings:
        print(f"{SOURCE}:{finding}")
    print(f"{len(findings)} findings")
    return 1 if findings else 0


def review(source: str) -> list[str]:
    """Return the findings, each with its line."""
    findings = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and ast.get_docstring(node) is None:
            findings.append(f"{node.lineno}: {node.name} has no docstring")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            findings.append(f"{node.lineno}: a library does not print")
    for number, line in enumerate(source.splitlines(), start=1):
        if len(line) > LONGEST_LINE:
            findings.append(f"{number}: longer than {LONGEST_LINE} characters")
    return findings


if __name__ == "__main__":
    sys.exit(main())
