"""The style holds itself: sizes, docstrings of tests, and nothing left to do."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULE_MAX_LINES = 350
FUNCTION_MAX_LINES = 55

LONGER_MODULES: dict[str, int] = {}
"""Modules that are longer, with their reason and how long they may be; the number may only become smaller."""

LEFT_TO_DO = ["TO" + "DO", "FIX" + "ME", "X" * 3]
SOURCES = [
    path
    for room in ("lorch_actors", "tests", "benchmarks")
    for path in sorted((ROOT / room).rglob("*.py"))
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)  # benchmarks/.peers
    if "project" not in path.parts
]
PACKAGE = [path for path in SOURCES if path.is_relative_to(ROOT / "lorch_actors")]
TESTS = [path for path in SOURCES if path.is_relative_to(ROOT / "tests")]


def name_of(path):
    """Return how a test names a file."""
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path):
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text())


def functions(path):
    """Return all functions of a file."""
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_modules_are_short():
    """One thing a module; what is longer is named above."""
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in PACKAGE}
    long = {name: lines for name, lines in lengths.items() if lines > LONGER_MODULES.get(name, MODULE_MAX_LINES)}

    assert long == {}


def test_the_list_of_longer_modules_only_shrinks():
    """A module that became short again is taken off the list."""
    needless = {
        name
        for name in LONGER_MODULES
        if not (ROOT / name).exists() or len((ROOT / name).read_text().splitlines()) <= MODULE_MAX_LINES
    }

    assert needless == set()


def test_functions_fit_a_screen():
    """A function can be read without scrolling."""
    lengths = {f"{name_of(path)}:{f.name}": f.end_lineno - f.lineno + 1 for path in SOURCES for f in functions(path)}
    long = {name: lines for name, lines in lengths.items() if lines > FUNCTION_MAX_LINES}

    assert long == {}


def test_nothing_is_left_to_do():
    """What is not done is an issue, not a remark in the code."""
    words = re.compile(r"\b(?:" + "|".join(LEFT_TO_DO) + r")\b")

    assert [name_of(path) for path in SOURCES if words.search(path.read_text())] == []


def test_modules_say_what_they_are_for():
    """Each begins with a docstring."""
    assert [name_of(path) for path in PACKAGE if not ast.get_docstring(parsed(path))] == []


def test_tests_say_what_they_promise():
    """Each test begins with one sentence that states the behaviour."""
    silent = [
        f"{name_of(path)}:{f.name}"
        for path in TESTS
        for f in functions(path)
        if f.name.startswith("test_") and not ast.get_docstring(f)
    ]

    assert silent == []
