"""The rooms of the package, and who may look into which: imports point downwards only."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "lorch_actors"

EVERYBODY = frozenset({"errors"})
MAY_IMPORT = {
    "processes": set(),
    "guardian": {"processes", "cli.routing"},  # routing: which words of the command line start a run, and where
    "protocol": set(),
    "workflow": {"protocol"},
    "storage": {"protocol", "processes"},
    "records": {"protocol", "workflow", "storage"},
    "actors": {
        "protocol",
        "workflow",
        "storage",
        "records",
        "processes",
        "guardian.link",  # the orchestrator's ends of what ties it to its guardian
        "guardian.signals",
        "guardian.console",
    },
    "agents": {
        "protocol",
        "processes",  # what an agent starts has to end with it, found as the guardian finds it
        "storage.disk",  # journals and files are as durable as anything we write
        "storage.atomic",
        "storage.paths",  # paths in scripts are held to the same rules as those of agents
        "storage.checksums",
        "storage.snapshots",  # artifacts are found by comparing the tree before and after
        "storage.manifests",
        "storage.stat_cache",
    },
    "demo": set(),
}
"""What each room may import besides itself and the errors; a room that is not named is above all others."""

TOP = {"cli", "chaos", "intake", "__init__", "__main__"}
STANDARD = sys.stdlib_module_names


def modules():
    """Return every module of the package by its dotted name below it; the demo's own project is not ours."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[:2] != ("demo", "project"):
            found[".".join(parts)] = ast.parse(path.read_text())
    return found


MODULES = modules()


def imported(tree, *, eager_only=False):
    """Return the full names a module imports; ``eager_only`` leaves out what is imported inside functions."""
    nodes = _eager(tree) if eager_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room is meant"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _eager(tree):
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for_checkers = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if not for_checkers and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def own(name):
    """Return the module of ours that an imported name lies in, or None for a stranger."""
    parts = name.split(".")
    if parts[0] != "lorch_actors":
        return None
    for length in range(len(parts), 1, -1):
        for suffix in ("", ".__init__"):
            candidate = ".".join(parts[1:length]) + suffix
            if candidate in MODULES:
                return candidate
    return "__init__"


def room_of(module):
    """Return the room a module lies in: its directory, or itself."""
    return module.split(".")[0]


def test_every_room_is_known():
    """Whoever adds a room says here what it may look into."""
    rooms = {room_of(module) for module in MODULES}

    assert rooms <= MAY_IMPORT.keys() | TOP | EVERYBODY


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_downwards(module):
    """A room imports itself, the errors, and what lies below it, also inside functions."""
    room = room_of(module)
    if room in TOP | EVERYBODY:
        return
    targets = {target for target in map(own, imported(MODULES[module])) if target not in {None, "__init__"}}
    allowed = MAY_IMPORT[room] | EVERYBODY | {room}
    beyond = {t for t in targets if room_of(t) not in allowed and t.removesuffix(".__init__") not in allowed}

    assert beyond == set()


def test_the_errors_import_nothing_of_ours():
    """They lie below everything."""
    assert not any(map(own, imported(MODULES["errors"])))


def test_the_guardian_needs_the_standard_library_only():
    """With all that it imports on its way up, so that nothing a package does can keep it from its work."""
    waiting, seen, strangers = [m for m in MODULES if room_of(m) == "guardian"], set(), set()
    while waiting:
        module = waiting.pop()
        if module in seen or module not in MODULES:
            continue
        seen.add(module)
        parents = module.split(".")[:-1]
        waiting.extend([*(".".join([*parents[: n + 1], "__init__"]) for n in range(len(parents))), "__init__"])
        for name in imported(MODULES[module], eager_only=True):
            target = own(name)
            if target is not None:
                waiting.append(target)
            elif name.split(".")[0] not in STANDARD:
                strangers.add((module, name))

    assert strangers == set()
    assert seen.isdisjoint(m for m in MODULES if room_of(m) in {"actors", "storage", "workflow", "records", "agents"})


@pytest.mark.parametrize("module", sorted(m for m in MODULES if room_of(m) == "workflow"))
def test_the_core_touches_neither_clock_nor_chance_nor_world(module):
    """Time and randomness come in as arguments; files and processes are for others."""
    banned = {
        "time",
        "datetime",
        "random",
        "secrets",
        "uuid",
        "os",
        "io",
        "pathlib",
        "subprocess",
        "threading",
        "socket",
    }
    roots = {name.split(".")[0] for name in imported(MODULES[module])}

    assert roots.isdisjoint(banned)
