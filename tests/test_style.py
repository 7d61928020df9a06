"""The style holds itself: sizes, docstrings of tests, and nothing left to do."""

import ast
import re
from pathlib import Path

import pytest

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
    if "project" not in path.parts
]
PACKAGE = [path for path in SOURCES if path.is_relative_to(ROOT / "lorch_actors")]
TESTS = [path for path in SOURCES if path.is_relative_to(ROOT / "tests")]


def name_of(path):
    """Return how a test names a file."""
    return path.relative_to(ROOT).as_posix()


def functions(path):
    """Return all functions of a file."""
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_modules_are_short(path):
    """One thing a module; what is longer is named above."""
    assert len(path.read_text().splitlines()) <= LONGER_MODULES.get(name_of(path), MODULE_MAX_LINES)


def test_the_list_of_longer_modules_only_shrinks():
    """A module that became short again is taken off the list."""
    needless = {
        name
        for name in LONGER_MODULES
        if not (ROOT / name).exists() or len((ROOT / name).read_text().splitlines()) <= MODULE_MAX_LINES
    }

    assert needless == set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_fit_a_screen(path):
    """A function can be read without scrolling."""
    lengths = {function.name: function.end_lineno - function.lineno + 1 for function in functions(path)}
    long = {name: lines for name, lines in lengths.items() if lines > FUNCTION_MAX_LINES}

    assert long == {}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_left_to_do(path):
    """What is not done is an issue, not a remark in the code."""
    assert re.findall(r"\b(?:" + "|".join(LEFT_TO_DO) + r")\b", path.read_text()) == []


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_modules_say_what_they_are_for(path):
    """Each begins with a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_tests_say_what_they_promise(path):
    """Each test begins with one sentence that states the behaviour."""
    silent = [f.name for f in functions(path) if f.name.startswith("test_") and not ast.get_docstring(f)]

    assert silent == []
