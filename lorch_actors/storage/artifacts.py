"""Whether what an agent says it wrote is there, before its command is settled (SPEC §5.3).

A wrong claim is a value, not an exception. A path that leaves the workspace is a problem whatever the policy: it is a
question of safety, not of trust.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal, Protocol

from msgspec import Struct

from lorch_actors.errors import FailureCode
from lorch_actors.storage.checksums import hash_open_file
from lorch_actors.storage.paths import Refusal, RefusedPath, components, open_beneath

_UNSAFE: Final = frozenset(
    {
        Refusal.EMPTY,
        Refusal.ABSOLUTE,
        Refusal.UPWARDS,
        Refusal.NUL,
        Refusal.NOT_TEXT,
        Refusal.LEAVES,
        Refusal.TOO_MANY_LINKS,
        Refusal.TOO_DEEP,
    }
)

Mode = Literal["strict", "warn", "off"]


class Claim(Protocol):
    """A file as an agent claims it, such as `messages.Artifact`. The checksum may be any text."""

    @property
    def path(self) -> str: ...  # noqa: D102 - as in the message
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102


class Expectation(Protocol):
    """A file a command has to leave behind, such as `messages.ExpectedOutput`."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def required(self) -> bool: ...  # noqa: D102


class Finding(Struct, frozen=True):
    """What is wrong with one path: ``artifact_mismatch`` or ``artifact_too_large``, and a sentence for people."""

    path: str
    code: FailureCode
    message: str


class Verdict(Struct, frozen=True):
    """What the check found. Problems send the command again; warnings are told."""

    problems: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def verify_artifacts(
    root: Path,
    artifacts: Iterable[Claim],
    expected_outputs: Iterable[Expectation] = (),
    *,
    max_bytes: int,
    mode: Mode = "strict",
    on_progress: Callable[[], None] | None = None,
) -> Verdict:
    """Compare claims and expectations with the files below ``root``.

    max_bytes: the largest artifact accepted. mode: under ``warn`` everything but an unsafe path is a warning; under
    ``off`` no file is looked at and only the text of the paths is. on_progress: called for each file and every 16 MiB.
    Raises StorageError when the disk, not the claim, is at fault.
    """
    check = _Check(root, max_bytes, on_progress or _no_progress)
    problems: list[Finding] = []
    warnings: list[Finding] = []
    for claim in artifacts:
        _sort(_syntax(claim.path) if mode == "off" else check.claim(claim), mode, problems, warnings)
    for expected in expected_outputs:
        if expected.required:
            _sort(_syntax(expected.path) if mode == "off" else check.exists(expected.path), mode, problems, warnings)
    return Verdict(tuple(problems), tuple(warnings))


_Found = tuple[Finding, bool] | None
"""What is wrong, and whether it is unsafe."""


def _sort(found: _Found, mode: Mode, problems: list[Finding], warnings: list[Finding]) -> None:
    if found is not None:
        finding, unsafe = found
        (warnings if mode == "warn" and not unsafe else problems).append(finding)


def _syntax(path: str) -> _Found:
    try:
        components(path)
    except RefusedPath as error:
        return _refused(path, error)
    return None


def _refused(path: str, error: RefusedPath) -> _Found:
    return _mismatch(path, error.what), error.reason in _UNSAFE


def _mismatch(path: str, message: str) -> Finding:
    return Finding(path, FailureCode.ARTIFACT_MISMATCH, message)


def _no_progress() -> None:
    return


class _Check:
    def __init__(self, root: Path, max_bytes: int, on_progress: Callable[[], None]) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._on_progress = on_progress

    def exists(self, path: str) -> _Found:
        """Look for a required output: a regular file inside the workspace."""
        self._on_progress()
        try:
            os.close(open_beneath(self._root, path))
        except RefusedPath as error:
            finding, unsafe = _mismatch(path, f"a required output: {error.what}"), error.reason in _UNSAFE
            return finding, unsafe
        return None

    def claim(self, claim: Claim) -> _Found:
        """Compare one file with what is claimed of it."""
        self._on_progress()
        try:
            fd = open_beneath(self._root, claim.path)
        except RefusedPath as error:
            return _refused(claim.path, error)
        try:
            finding = self._content(fd, claim)
        finally:
            os.close(fd)
        return None if finding is None else (finding, False)

    def _content(self, fd: int, claim: Claim) -> Finding | None:
        size = os.fstat(fd).st_size
        if size > self._max_bytes:
            message = f"{size} bytes are more than policy.artifact_max_bytes allows ({self._max_bytes})"
            return Finding(claim.path, FailureCode.ARTIFACT_TOO_LARGE, message)
        if size == claim.size:
            # One byte more than claimed: a file that grows meanwhile is noticed, and does not keep us reading.
            checksum, size = hash_open_file(fd, claim.size + 1, self._on_progress)
            if size == claim.size:
                wrong = f"its checksum is {checksum}, claimed was {claim.sha256}"
                return None if checksum == claim.sha256 else _mismatch(claim.path, wrong)
        return _mismatch(claim.path, f"it has {size} bytes, claimed were {claim.size}")
