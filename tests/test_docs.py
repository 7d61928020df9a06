"""Every command and example of the documentation does what the page says; what is shown is what is printed."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from docs_blocks import (
    PAGES,
    ROOT,
    Block,
    agrees,
    alike,
    anchors_of,
    blocks_of,
    commands_in_prose,
    links_of,
    prose_of,
    steps_of,
)

from lorch_actors.actors import ring
from lorch_actors.cli.app import commands
from lorch_actors.cli.routing import route
from lorch_actors.errors import ExitCode, FailureCode
from lorch_actors.protocol.configuration import parse_configuration
from lorch_actors.protocol.messages import AGENT_EVENTS
from lorch_actors.protocol.parse import parse_message
from lorch_actors.records.verify import CHECKS
from lorch_actors.workflow.system import PAYLOADS

SETUP = [
    "python -m pip install . && python -m lorch_actors run --demo",
    "python -m pip install -e '.[dev]' && python -m pytest",
]
STEP_TIMEOUT_S = 90.0


def name_of(page: Path) -> str:
    """Return how a test names a page."""
    return page.relative_to(ROOT).as_posix()


pages = pytest.mark.parametrize("page", PAGES, ids=name_of)

LONG_PAGES = ("docs/AGENTS.md", "docs/IDEMPOTENCY.md", "docs/LEDGER.md", "docs/RESUME.md")
"""Pages with many runs in them."""


class Stage:
    """The directory in which a page is played, with a terminal's environment."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        git = "[user]\n name = Reader\n email = reader@example.org\n[init]\n defaultBranch = main\n"
        (home / ".gitconfig").write_text(git)

    def call(self, script: str, block: Block) -> "subprocess.CompletedProcess[str]":
        """Run a script as a reader would, where the block says."""
        where = self.home / block.settings.get("in", ".")
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LORCH_", "GIT_", "PYTEST_"))}
        env |= {
            "PATH": f"{Path(sys.executable).parent}:{env['PATH']}",
            "HOME": str(self.home),
            "NO_COLOR": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        argv = ["bash", "-euo", "pipefail", "-c", script]
        return subprocess.run(
            argv, cwd=where, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=STEP_TIMEOUT_S
        )


def exit_code_of(ended: "subprocess.CompletedProcess[str]") -> int:
    """Return the exit code as a shell tells it: 128 and the signal for what was killed."""
    return ended.returncode if ended.returncode >= 0 else 128 - ended.returncode


# -- the kinds of blocks ----------------------------------------------------------------------------------------------


def play_setup(block: Block, stage: Stage):
    """Play ``setup``: the two commands that ``.ci/run`` takes out of the README and carries out."""
    assert block.page.name == "README.md"


def play_run(block: Block, stage: Stage):
    """Play ``run [exit=N] [in=DIR]``: a script that ends with this exit code."""
    ended = stage.call(block.text, block)

    assert exit_code_of(ended) == int(block.settings.get("exit", 0)), f"{block}\n{ended.stdout}\n{ended.stderr}"


def play_session(block: Block, stage: Stage):
    """Play ``session [exact] [exit=N] [in=DIR]``: commands after ``$``, each with what it prints (``…``: and more)."""
    same = (lambda line: line.rstrip()) if "exact" in block.words else alike
    for command, told in steps_of(block.text):
        ended = stage.call(f"{{ {command}\n}} 2>&1", block)
        printed = [same(line.replace(str(stage.home), "~")) for line in ended.stdout.splitlines()]

        assert agrees([same(line) for line in told], printed), f"{block}: {command}\n" + "\n".join(printed)
        assert exit_code_of(ended) == int(block.settings.get("exit", 0)), f"{block}: {command}\n{ended.stdout}"


def play_file(block: Block, stage: Stage):
    """Play ``file PATH``: a file that later blocks of the page use."""
    path = stage.home / block.words[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text)


def play_same(block: Block, stage: Stage):
    """Play ``same PATH``: the whole text of a file in the repository; later blocks of the page find it as well."""
    assert block.text == (ROOT / block.words[0]).read_text("utf-8")
    shutil.copy(ROOT / block.words[0], stage.home)


def play_part(block: Block, stage: Stage):
    """Play ``part PATH``: lines that stand like this in a file of the repository."""
    assert block.text in (ROOT / block.words[0]).read_text("utf-8"), str(block)


def play_message(block: Block, stage: Stage):
    """Play ``message``: lines of the wire protocol, spread out for people or one a line."""
    for line in _documents(block.text):
        parse_message(line)


def play_config(block: Block, stage: Stage):
    """Play ``config``: a configuration, valid without a warning."""
    assert parse_configuration(block.text.encode(), str(block))[1] == []


def play_tree(block: Block, stage: Stage):
    """Play ``tree``: a picture of the actors; it shows each of them, by the name under which it is restarted."""
    names = [ring.RUN_SUPERVISOR, ring.RING_SUPERVISOR, ring.AGENT_SUPERVISOR, ring.LEDGER, ring.RUN_STATE]
    names += [ring.SNAPSHOTTER, ring.TRANSCRIPT, ring.CONDUCTOR, "restart-recorder", "builder", "reviewer"]

    assert [name for name in [*names, "spec_maintainer", "guardian"] if name not in block.text] == []


def play_picture(block: Block, stage: Stage):
    """Play ``picture``: lines for the eye, with nothing in them that could be wrong."""
    assert block.language == "text"


KINDS: dict[str, Callable[[Block, Stage], None]] = {
    name.removeprefix("play_"): function for name, function in dict(globals()).items() if name.startswith("play_")
}


def _documents(text: str) -> list[bytes]:
    """Return the JSON documents that stand one after the other in a text, each in one line."""
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        found.append(json.dumps(document).encode())
        rest = rest[end:].strip()
    return found


# -- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the demo once, for pages that look at what a run leaves behind."""
    stage = Stage(tmp_path_factory.mktemp("docs") / "home")
    play_run(Block(ROOT / "README.md", 0, "sh", "lorch run --demo demo --quiet"), stage)
    return stage.home / "demo"


@pages
def test_every_block_says_how_it_is_tested(page: Path):
    """No example goes unplayed because somebody forgot it."""
    unknown = [str(block) for block in blocks_of(page) if block.kind not in KINDS]

    assert unknown == []
    assert not re.search(r"^(?: {4}|\t)(?! *(?:[-*|]|\d+\.))\S", prose_of(page), re.MULTILINE), "an indented block"


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.long if name_of(page) in LONG_PAGES else ()) for page in PAGES],
    ids=name_of,
)
def test_every_block_of_a_page_is_as_it_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest):
    """Played in order, in one directory, with nothing prepared but what the page itself prepares."""
    stage = Stage(tmp_path / "home")
    blocks = blocks_of(page)
    if any(block.settings.get("in") == "demo" for block in blocks):
        shutil.copytree(request.getfixturevalue("demo"), stage.home / "demo", symlinks=True)
    for block in blocks:
        needed = block.settings.get("needs")
        if needed is None or shutil.which(needed):
            KINDS[block.kind](block, stage)


@pages
def test_every_link_leads_somewhere(page: Path):
    """Files and headings that a page points to are there; links to elsewhere are secure."""
    for link in links_of(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https"
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page

        assert target.exists(), link
        assert not parts.fragment or parts.fragment in anchors_of(target), link


@pages
def test_every_command_named_in_passing_exists(page: Path):
    """With its options, so that a renamed one is renamed here as well."""
    for line in commands_in_prose(page):
        words = line.split()[1:] if line.startswith("lorch ") else line.split()[3:]
        routed = list(route([word.strip("'\"") for word in words]).argv)
        options = {word.partition("=")[0] for word in routed if word.startswith("--")}
        subcommand = next((word for word in routed if not word.startswith("-")), None)
        command: click.Command | None = commands
        with click.Context(commands) as context:
            if subcommand is not None:
                command = commands.get_command(context, subcommand)
            assert command is not None, line
            known = {name for parameter in command.params for name in parameter.opts} | {"--help"}

        assert options <= known, line


@pages
def test_pages_name_no_machine(page: Path):
    """What was pasted from somebody's terminal names none of his directories."""
    assert re.findall(r"(?:^|[\s`'\"(=])(/(?:home|root|tmp|work|Users|opt)/\S*)", page.read_text("utf-8")) == []


def test_the_readme_has_exactly_the_two_set_up_commands():
    """They stand alone in their blocks, where a copying hand finds them."""
    told = [block.text.strip() for block in blocks_of(ROOT / "README.md") if block.kind == "setup"]

    assert told == SETUP


def test_the_readme_tells_every_exit_code():
    """With what each means."""
    told = re.findall(r"^\| (\d) \|", prose_of(ROOT / "README.md"), re.MULTILINE)

    assert told == [str(int(code)) for code in ExitCode]


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("AGENTS.md", AGENT_EVENTS),
        ("AGENTS.md", [code.value for code in FailureCode]),
        ("LEDGER.md", list(PAYLOADS)),
        ("LEDGER.md", list(CHECKS)),
    ],
    ids=["agent events", "failure codes", "system events", "checks"],
)
def test_a_table_is_complete(page: str, names: list[str]):
    """Whoever adds one adds it to the page."""
    text = prose_of(ROOT / "docs" / page)

    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_architecture_page_shows_every_room():
    """Whoever adds a room says there what it is for."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text("utf-8")
    rooms = [path.name for path in (ROOT / "lorch_actors").iterdir() if (path / "__init__.py").exists()]

    assert [room for room in rooms if f"{room}/" not in text] == []
