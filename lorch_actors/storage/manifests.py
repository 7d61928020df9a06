"""What a snapshot says, its id, its manifest on disk, and how two manifests differ (SPEC §5.1).

The id is ``snap-`` and the first 12 hex digits of SHA-256 over the RFC 8785 form of the list of the manifest's entries
without their ``mtime``. ``encoded`` is part of it: a file named ``%FF`` and one named by the single byte FF would
otherwise give one id for two different trees.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from lorch_actors.errors import SnapshotError
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.storage import atomic, disk
from lorch_actors.storage.file_records import Listing

_ENTRIES_PER_HASH: Final = 1024
_ENTRIES_PER_BLOCK: Final = 1024
_MANIFEST_MAX_BYTES: Final = 1 << 30
_SECOND_NS: Final = 1_000_000_000


class TrackedFile(Struct, frozen=True, gc=False):
    """A regular file. size in bytes, mtime_ns in nanoseconds since 1970; encoded: see `written_name`."""

    path: str
    sha256: str
    size: int
    mtime_ns: int
    encoded: bool = False


class TrackedLink(Struct, frozen=True, gc=False):
    """A symbolic link and the text it holds. ``encoded`` speaks of path and link together."""

    path: str
    link: str
    mtime_ns: int
    encoded: bool = False


class Skipped(Struct, frozen=True):
    """What is neither file, directory nor link, and so not tracked. kind: ``fifo``, ``socket``, ``device``."""

    path: str
    kind: str
    encoded: bool = False


class Found(Struct, frozen=True):
    """What a tree holds. listings: its files, by directory: the path with its last ``/``. links: by path.

    Paths are as `os.fsdecode` gives them. Entries are made where they are needed, which is seldom: of a tree that has
    not changed, the id is known.
    """

    listings: dict[str, Listing]
    links: dict[str, TrackedLink]

    def entries(self) -> Iterator[TrackedFile | TrackedLink]:
        """Yield an entry for each file and link, in the order of their path bytes."""
        made: dict[str, TrackedFile | TrackedLink] = {**self.links}
        for directory, listing in self.listings.items():
            for name, size, mtime_ns, digest in listing.files():
                path = directory + name
                text = written_name(path)
                made[path] = TrackedFile(text or path, f"sha256:{digest}", size, mtime_ns, text is not None)
        for path in in_byte_order([*made]):
            yield made[path]

    def without(self, paths: Collection[str]) -> "Found":
        """Return the same without the files at these paths."""
        listings = dict(self.listings)
        for directory in {directory_of(path) for path in paths} & listings.keys():
            records = listings.pop(directory).records()
            left = {name: record for name, record in records.items() if directory + name not in paths}
            if left:
                listings[directory] = Listing.of(left)
        return Found(listings, self.links)


class Snapshot(Struct, frozen=True):
    """One capture. skipped is in the order of the path bytes; files_read: how many had to be read for it."""

    snapshot_id: str
    found: Found
    skipped: tuple[Skipped, ...]
    files_read: int

    @property
    def entries(self) -> tuple[TrackedFile | TrackedLink, ...]:
        """All files and links, in the order of their path bytes; made anew each time."""
        return tuple(self.found.entries())

    @property
    def files(self) -> int:
        """How many files there are."""
        return sum(map(len, self.found.listings.values()))

    @property
    def links(self) -> int:
        """How many links there are."""
        return len(self.found.links)

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(listing.size_bytes for listing in self.found.listings.values())


def directory_of(path: str) -> str:
    """Return the path up to and with its last slash, empty if there is none."""
    return path[: path.rfind("/") + 1]


def in_byte_order(paths: list[str]) -> list[str]:
    """Return the paths, as `os.fsdecode` gives them, in the order of their bytes."""
    try:
        "".join(paths).encode()
    except UnicodeEncodeError:  # for surrogates, which stand for stray bytes
        return sorted(paths, key=os.fsencode)
    return sorted(paths)  # the order of code points is that of UTF-8 bytes


def tracked_link(path: str, target: str, mtime_ns: int) -> TrackedLink:
    """Return the entry of a link; path and target as `os.fsdecode` gives them."""
    if written_name(path) is None and written_name(target) is None:
        return TrackedLink(path, target, mtime_ns)
    texts = [written_name(text) or text.replace("%", "%25") for text in (path, target)]
    return TrackedLink(texts[0], texts[1], mtime_ns, encoded=True)


def snapshot_id(entries: Iterable[TrackedFile | TrackedLink]) -> str:
    """Return the id of a tree with these entries, which are in the order of their path bytes."""
    digest = hashlib.sha256(b"[")
    texts = map(_canonical, entries)
    separator = ""
    while block := ",".join(islice(texts, _ENTRIES_PER_HASH)):
        digest.update((separator + block).encode())
        separator = ","
    digest.update(b"]")
    return f"snap-{digest.hexdigest()[:12]}"


def _canonical(entry: TrackedFile | TrackedLink) -> str:
    """Return the RFC 8785 form (keys sorted) of an entry; a general serializer takes ten times as long."""
    mark = '"encoded":true,' if entry.encoded else ""
    path = encode_basestring(entry.path)
    if isinstance(entry, TrackedFile):
        return f'{{{mark}"path":{path},"sha256":"{entry.sha256}","size":{entry.size}}}'
    return f'{{{mark}"link":{encode_basestring(entry.link)},"path":{path}}}'


def written_name(name: str) -> str | None:
    """Return a name that is not UTF-8 with ``%XX`` for each stray byte and ``%25`` for ``%``; None if it is UTF-8.

    name: as `os.fsdecode` gives it. No two names are written alike, given the mark ``encoded``.
    """
    if name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name):
        return None
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in name.replace("%", "%25"))


def manifest(snapshot: Snapshot, created_at: str, workspace_root: str) -> dict[str, Any]:
    """Return the manifest as the JSON object that `write_manifest` writes. created_at: RFC 3339."""
    return _head(snapshot, created_at, workspace_root) | {"files": [_object(entry) for entry in snapshot.entries]}


def write_manifest(path: Path, snapshot: Snapshot, created_at: str, workspace_root: str) -> None:
    """Write the manifest atomically, one entry a line, so that `grep` and `diff` see entries. Raises StorageError.

    It is built from bytes of a few entries at a time: as objects, a large tree would not fit the memory promised.
    """
    head = msgspec.json.encode(_head(snapshot, created_at, workspace_root))
    content = bytearray(head[:-1] + b',"files":[')
    lines = map(msgspec.json.encode, map(_object, snapshot.found.entries()))
    separator = b"\n"
    while block := b",\n".join(islice(lines, _ENTRIES_PER_BLOCK)):
        content += separator + block
        separator = b",\n"
    content += b"\n]}\n"
    disk.make_directory(path.parent)
    atomic.write_atomic(path, bytes(content))


def read_manifest(path: Path) -> dict[str, Any]:
    """Return a manifest. Raises SnapshotError if it is absent or is none, StorageError if it cannot be read."""
    content = disk.read_file(path, _MANIFEST_MAX_BYTES)
    remedy = "Capture it again with `lorch snapshot`."
    if content is None:
        raise SnapshotError("the manifest is not there", where=str(path), remedy=remedy)
    try:
        found = msgspec.json.decode(content, type=dict[str, Any])
        _keyed(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise SnapshotError("is not a snapshot manifest", where=str(path), remedy=remedy) from error
    return found


class Changes(Struct, frozen=True):
    """Paths by what happened to them, as manifests write them, each list sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """Return what the tracked files of ``new`` have other than those of ``old``; times are not compared."""
    before, after = _keyed(old), _keyed(new)
    return Changes(
        added=_paths(after.keys() - before.keys()),
        changed=_paths({key for key in after.keys() & before.keys() if after[key] != before[key]}),
        removed=_paths(before.keys() - after.keys()),
    )


def drift(manifest: Mapping[str, Any], now: Mapping[str, Any], claimed: Collection[str]) -> Changes:
    """Return what differs from a task's snapshot without any step having claimed it.

    manifest: of the task's snapshot. now: of the tree as it is. claimed: the paths of all artifacts since.
    """
    found = changes(manifest, now)
    known = frozenset(claimed)
    return Changes(*(tuple(path for path in paths if path not in known) for paths in msgspec.structs.astuple(found)))


def _head(snapshot: Snapshot, created_at: str, workspace_root: str) -> dict[str, Any]:
    head: dict[str, Any] = {
        "snapshot_id": snapshot.snapshot_id,
        "created_at": created_at,
        "workspace_root": written_name(workspace_root) or workspace_root,
    }
    if snapshot.skipped:
        head["skipped"] = [
            {"path": one.path, "kind": one.kind} | ({"encoded": True} if one.encoded else {})
            for one in snapshot.skipped
        ]
    return head


def _object(entry: TrackedFile | TrackedLink) -> dict[str, Any]:
    said: dict[str, Any]
    if isinstance(entry, TrackedFile):
        said = {"path": entry.path, "sha256": entry.sha256, "size": entry.size, "mtime": _mtime(entry.mtime_ns)}
    else:
        said = {"path": entry.path, "link": entry.link, "mtime": _mtime(entry.mtime_ns)}
    if entry.encoded:
        said["encoded"] = True
    return said


def _mtime(ns: int) -> str:
    second, rest = divmod(ns, _SECOND_NS)
    return f"{_second(second)}.{rest:09d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    # Files of one checkout share their seconds, and turning one into a date is what costs.
    return to_timestamp(seconds * 1000)[:19]


def _keyed(manifest: Mapping[str, Any]) -> dict[tuple[str, bool], tuple[Any, ...]]:
    """Return what each entry holds, by what names it."""
    return {
        (entry["path"], bool(entry.get("encoded"))): (entry.get("sha256"), entry.get("size"), entry.get("link"))
        for entry in manifest["files"]
    }


def _paths(keys: Collection[tuple[str, bool]]) -> tuple[str, ...]:
    return tuple(path for path, _ in sorted(keys))
