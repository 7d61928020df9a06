"""The fenced blocks of the documentation, each with the remark in front of it that says how it is tested.

A remark is an HTML comment on the line before the fence, invisible to readers: ``<!-- test: KIND [key=value …] -->``.
The kinds are the functions of `test_docs`; the blocks of one page share a directory and are played in order.
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_REMARK = re.compile(r"<!-- test: (.*?) -->")
_FENCE = re.compile(r"^(`{3,}|~{3,})(\S*)\s*$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")

_ALIKE = [
    (re.compile(r"run-\d{8}-\d{6}-[0-9a-f]{8}"), "RUN"),
    (re.compile(r"snap-[0-9a-f]{12}"), "SNAPSHOT"),
    (re.compile(r"ik:[0-9a-f]{64}"), "KEY"),
    (re.compile(r"\b[0-9a-f]{40}\b|\b[0-9a-f]{12}\b"), "COMMIT"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "TIME"),
    (re.compile(r"\b(builder|reviewer|spec_maintainer)-[0-9a-f]{8}\b"), r"\1-INCARNATION"),
    (re.compile(r"\bin \d[\d.]* (s|min)\b"), "in TIME"),
    (re.compile(r"((/[^\s/]+)+/)?\bpython(\d[\d.]*)?(?= )"), "python"),
]


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its fence, from 1. kind, words, settings: of the remark; kind is "" without one."""

    page: Path
    line: int
    language: str
    text: str
    kind: str = ""
    words: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}, line {self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    found: list[Block] = []
    lines = page.read_text("utf-8").splitlines()
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence is None:
            at += 1
            continue
        end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == fence[1])
        text = "".join(f"{line}\n" for line in lines[at + 1 : end])
        found.append(_block(page, at + 1, fence[2], text, lines[at - 1] if at else ""))
        at = end + 1
    return found


def _block(page: Path, line: int, language: str, text: str, before: str) -> Block:
    remark = _REMARK.fullmatch(before.strip())
    if remark is None:
        return Block(page, line, language, text)
    kind, *rest = shlex.split(remark[1])
    settings = dict(word.split("=", 1) for word in rest if "=" in word)
    return Block(page, line, language, text, kind, tuple(w for w in rest if "=" not in w), settings)


def prose_of(page: Path) -> str:
    """Return the page without its blocks."""
    kept, fence = [], None
    for line in page.read_text("utf-8").splitlines():
        if fence is None and (found := _FENCE.match(line)):
            fence = found[1]
        elif fence is None:
            kept.append(line)
        elif line.strip() == fence:
            fence = None
    return "\n".join(kept)


def links_of(page: Path) -> list[str]:
    """Return where the links of a page lead."""
    return _LINK.findall(prose_of(page))


def commands_in_prose(page: Path) -> list[str]:
    """Return the calls of this program that a page names in its running text."""
    found = (code.replace("…", "").strip() for code in _CODE.findall(prose_of(page)))
    names = ("lorch ", "python -m lorch_actors ")
    return [code for code in found if code.startswith(names)]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def steps_of(session: str) -> list[tuple[str, list[str]]]:
    """Return the commands of a console session, each with the lines it is said to print."""
    steps: list[tuple[str, list[str]]] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        elif line.startswith("> "):
            steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", [])
        else:
            steps[-1][1].append(line)
    return steps


def alike(line: str) -> str:
    """Return a line without what differs from run to run: ids, times, hashes, and where Python lies."""
    for pattern, name in _ALIKE:
        line = pattern.sub(name, line)
    return line.rstrip()


def agrees(told: list[str], printed: list[str]) -> bool:
    """Tell whether what was printed is as told; ``…`` stands for any lines, at the end of a line for any rest of it."""
    if not told:
        return not printed
    first, rest = told[0], told[1:]
    if first == "…":
        return any(agrees(rest, printed[n:]) for n in range(len(printed) + 1))
    if not printed:
        return False
    same = printed[0].startswith(first[:-1]) if first.endswith("…") else printed[0] == first
    return same and agrees(rest, printed[1:])
