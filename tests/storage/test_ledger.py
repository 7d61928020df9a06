"""The ledger under its writer: opening, repairing, appending, syncing."""

import errno
import os
import resource
import stat

import pytest
from ledger_making import RUN, as_file, end_of, progress, sealed_lines, torn_files, write_ledger

from lorch_actors.errors import LedgerDamaged, StorageError, UsageError
from lorch_actors.storage import disk
from lorch_actors.storage.ledger import LedgerFile, Position
from lorch_actors.storage.ledger_format import LINE_MAX_BYTES, seal

# Line 2 vouches for 1; lines 2 and 3 went out together; line 4 vouches for 3; nobody vouches for 4.
DURABLES = (0, 1, 1, 3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / f"{RUN}.ndjson"


@pytest.fixture
def unsynced(monkeypatch):
    """Let syncs return at once: thousands of real ones take their time on a busy disk."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


def reopened(path, *args, **kwargs):
    """Open and close; return where the ledger ends and whether something was repaired."""
    with LedgerFile.open(path, RUN, *args, **kwargs) as ledger:
        return ledger.synced, ledger.repaired


def test_open_makes_an_empty_ledger(path):
    """A ledger that is not there is made, for its owner only, and starts at the run id."""
    with LedgerFile.open(path, RUN) as ledger:
        assert (ledger.last_seq, ledger.last_chain, ledger.offset, ledger.synced_seq) == (0, RUN, 0, 0)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_synced_is_there_after_reopening(path):
    """Appended and synced lines are read back at the next open, and nothing needs repair."""
    lines = sealed_lines(DURABLES)
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[:3])
        ledger.append(lines[3:])
        assert (ledger.last_seq, ledger.synced_seq) == (4, 0)
        ledger.sync()
        assert ledger.synced == end_of(lines)

    assert path.read_bytes() == as_file(lines)
    assert reopened(path) == (end_of(lines), None)


@pytest.mark.usefixtures("unsynced")
def test_open_on_a_write_torn_at_any_byte(path):
    """Wherever the last write broke off: whole lines stay, the rest is copied aside and cut, and then all is well."""
    lines = sealed_lines(DURABLES)
    whole = as_file(lines)
    ends = {end_of(lines[:n]).offset: n for n in range(1, 5)}
    for cut in range(len(whole)):
        for torn in path.parent.glob("*.torn-*"):
            torn.unlink()
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut + 1 for end in ends)  # a line that lacks only its newline is whole
        kept_bytes = as_file(lines[:kept])

        end, repaired = reopened(path)

        assert end == (end_of(lines[:kept]) if kept else Position.start(RUN)), cut
        assert path.read_bytes() == kept_bytes
        torn = whole[len(kept_bytes) : cut]
        assert torn_files(path) == ([torn] if torn else [])
        assert (repaired is not None) == bool(torn)
        assert reopened(path) == (end, None)


@pytest.mark.usefixtures("unsynced")
def test_open_on_any_flipped_byte(path):
    """A flipped byte in what a later line vouches for is refused with its line; in the last line it is cut off."""
    lines = sealed_lines(DURABLES)
    whole = as_file(lines)
    starts = [0, *(end_of(lines[:n]).offset for n in range(1, 5))]
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x01]) + whole[at + 1 :])
        line = sum(start <= at for start in starts)
        if line < 4:
            with pytest.raises(LedgerDamaged) as caught:
                reopened(path)
            assert caught.value.where == f"{path}, line {line}, byte {starts[line - 1]}"
            assert path.stat().st_size == len(whole)
        else:
            assert reopened(path)[0] == end_of(lines[:3])


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_projection_that_stands_for_more_than_there_is_makes_it_damage(path, kept):
    """A ledger that ends before what a projection stands for was cut by somebody: it is refused, and left as it is."""
    lines = sealed_lines(DURABLES)
    path.write_bytes(as_file(lines[:kept]) + b'{"kind":"ev')

    with pytest.raises(LedgerDamaged, match=f"line {kept + 1} is torn"):
        reopened(path, [end_of(lines)])

    assert path.read_bytes().endswith(b'{"kind":"ev')
    path.write_bytes(as_file(lines[:kept]))
    with pytest.raises(LedgerDamaged, match=f"ends after line {kept}, but a projection stands for line 4"):
        reopened(path, [Position(0, RUN, 0), end_of(lines)])


def test_a_projection_protects_the_last_line(path):
    """A flip in the last line is damage, not a torn tail, when a projection stands for that line."""
    lines = write_ledger(path, DURABLES)
    path.write_bytes(path.read_bytes().replace(b'"m-4"', b'"m-5"'))

    with pytest.raises(LedgerDamaged, match="line 4 is other than it was written") as caught:
        reopened(path, [end_of(lines)])

    assert caught.value.where == f"{path}, line 4, byte {end_of(lines[:3]).offset}"
    assert torn_files(path) == []


def test_a_projection_of_another_history_is_refused(path):
    """A projection with another chain at a line that is there says that one of the two was replaced."""
    lines = write_ledger(path, DURABLES)

    with pytest.raises(
        LedgerDamaged, match=r"line 2 has the chain .*, a projection stands for it with 0123456789abcdef"
    ):
        reopened(path, [end_of(lines), Position(2, "0123456789abcdef", 0)])


def test_a_projection_without_its_ledger_is_refused(path):
    """A ledger that a projection stands for and that is gone is not silently started anew."""
    with pytest.raises(LedgerDamaged, match="ends after line 0"):
        reopened(path, [Position(2, "0123456789abcdef", 0)])

    assert not path.exists()


@pytest.mark.parametrize(
    ("order", "what", "line"),
    [
        ((1, 1, 2, 3, 4), "line 1 stands there twice", 2),
        ((1, 3, 4), "line 2 is missing", 2),
        ((1, 4), "lines 2 to 3 are missing", 2),
        ((2, 3, 4), "line 1 is missing", 1),
        ((1, 3, 2, 4), "line 3 stands where line 2 belongs", 2),
        ((1, 2, 1, 3, 4), "line 1 stands where line 3 belongs", 3),
    ],
)
def test_lost_doubled_and_moved_lines_are_named(path, order, what, line):
    """Whole lines that are missing, doubled or elsewhere are told apart and named with their place."""
    lines = dict(sealed_lines(DURABLES))
    path.write_bytes(b"".join(lines[seq] + b"\n" for seq in order))

    with pytest.raises(LedgerDamaged, match=what) as caught:
        reopened(path)

    assert f"line {line}, byte " in caught.value.where


def test_a_line_lost_between_two_that_were_never_acknowledged_is_cut(path):
    """A power cut can keep a later block and lose an earlier one; the marks show that nobody was told of either."""
    lines = sealed_lines((0, 1, 1, 1))
    path.write_bytes(as_file(lines[:1] + lines[2:]))

    assert reopened(path)[0] == end_of(lines[:1])
    assert torn_files(path) == [as_file(lines[2:])]


@pytest.mark.parametrize("garbage", [b"\0" * 100_000, b"\xff\n\n\nnull\n", b'{"a":1}\n', b"\n"])
def test_garbage_behind_the_last_line_is_cut(path, garbage):
    """What a crashed file system leaves behind the last line is copied aside and cut off."""
    lines = write_ledger(path, DURABLES)
    path.write_bytes(as_file(lines) + garbage)

    assert reopened(path)[0] == end_of(lines)
    assert torn_files(path) == [garbage]


def test_a_garbage_tail_longer_than_memory_should_hold_is_cut(path):
    """A tail without any newline, far longer than a line may be, is repaired like every other."""
    lines = write_ledger(path, DURABLES)
    with path.open("r+b") as file:
        file.truncate(end_of(lines).offset + 5 * LINE_MAX_BYTES)

    assert reopened(path)[0] == end_of(lines)
    assert [len(torn) for torn in torn_files(path)] == [5 * LINE_MAX_BYTES]


def test_garbage_longer_than_a_line_before_acknowledged_lines_is_damage(path):
    """A stretch longer than any line does not hide the lines behind it, which vouch for what stood there."""
    lines = sealed_lines(DURABLES)
    garbage = b"x" * (2 * LINE_MAX_BYTES)
    path.write_bytes(as_file(lines[:2]) + garbage + b"\n" + as_file(lines[3:]))

    with pytest.raises(LedgerDamaged, match="bytes without a newline stand where line 3 belongs"):
        reopened(path)


def test_a_last_line_without_newline_vouches_for_the_lines_before(path):
    """A missing line is damage when the last line says it was durable, whether a newline ends that one or not."""
    lines = sealed_lines(DURABLES)
    path.write_bytes(as_file(lines[:2] + lines[3:])[:-1])

    with pytest.raises(LedgerDamaged, match="line 3 is missing"):
        reopened(path)


def test_a_last_line_that_lacks_only_its_newline_is_kept(path):
    """Its chain proves every byte of it, so it gets its newline back; an editor may have taken it."""
    lines = sealed_lines(DURABLES)
    path.write_bytes(as_file(lines)[:-1])

    assert reopened(path, [end_of(lines)]) == (end_of(lines), None)
    assert path.read_bytes() == as_file(lines)


def test_a_crash_between_the_copy_and_the_cut_leaves_one_copy(path, monkeypatch):
    """A repair that dies after copying the tail aside is finished by the next open, without a second copy."""
    lines = write_ledger(path, DURABLES)
    path.write_bytes(as_file(lines) + b"torn")
    with monkeypatch.context() as patched:
        patched.setattr(disk, "truncate", _failing(errno.EIO))
        with pytest.raises(StorageError):
            reopened(path)

    assert reopened(path)[0] == end_of(lines)
    assert torn_files(path) == [b"torn"]


def test_every_torn_tail_is_kept_under_its_own_number(path):
    """A second, different tail does not overwrite the copy of the first."""
    lines = write_ledger(path, DURABLES)
    for tail in (b"first", b"second", b"thirdd"):
        path.write_bytes(as_file(lines) + tail)
        assert reopened(path)[0] == end_of(lines)

    assert torn_files(path) == [b"first", b"second", b"thirdd"]
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_nothing_is_cut_when_the_copy_cannot_be_made(path, monkeypatch):
    """On a full disk the tail stays where it is until there is room for its copy."""
    lines = write_ledger(path, DURABLES)
    path.write_bytes(as_file(lines) + b"torn")
    with monkeypatch.context() as patched:
        patched.setattr(disk, "write", _failing(errno.ENOSPC))
        with pytest.raises(StorageError, match="the disk is full"):
            reopened(path)

    assert path.read_bytes() == as_file(lines) + b"torn"
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_open_syncs_before_it_reads(path, monkeypatch):
    """What a dead writer left in the page cache is made durable before anyone is told of it."""
    write_ledger(path, DURABLES)
    calls = []
    for name in ("sync_file", "sync_directory", "read"):
        monkeypatch.setattr(disk, name, _recording(calls, name, getattr(disk, name)))

    reopened(path)

    assert calls[:3] == ["sync_file", "sync_directory", "read"]


@pytest.mark.parametrize(("content", "change"), [(b"torn", "truncate"), (None, "write")])
def test_a_repair_is_synced(path, monkeypatch, content, change):
    """A cut, or a newline put back, is on the disk before the ledger is used."""
    lines = sealed_lines(DURABLES)
    path.write_bytes(as_file(lines)[:-1] if content is None else as_file(lines) + content)
    calls = []
    for name in ("truncate", "write", "sync_file"):
        monkeypatch.setattr(disk, name, _recording(calls, name, getattr(disk, name)))

    reopened(path)

    assert calls[-2:] == [change, "sync_file"]


def test_a_checkpoint_spares_the_lines_before_it(path):
    """From a place that fits, only the rest is read and proved; so damage before it is left to `verify`."""
    lines = write_ledger(path, DURABLES)
    path.write_bytes(path.read_bytes().replace(b'"m-1"', b'"m-9"'))

    assert reopened(path, start=end_of(lines[:2])) == (end_of(lines), None)
    with pytest.raises(LedgerDamaged, match="line 1"):
        reopened(path)


@pytest.mark.parametrize("shift", [-1, 1, 100_000])
def test_a_checkpoint_at_a_wrong_offset_is_not_used(path, shift):
    """A place that does not fit the file is not believed: the ledger is read from its start."""
    lines = write_ledger(path, DURABLES)
    place = end_of(lines)

    assert reopened(path, start=Position(place.seq, place.chain, place.offset + shift)) == (place, None)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_ledger_that_ends_before_its_checkpoint_is_damage(path, kept):
    """A checkpoint was made of durable lines only: a ledger without them was cut."""
    lines = sealed_lines(DURABLES)
    path.write_bytes(as_file(lines[:kept]))

    with pytest.raises(LedgerDamaged, match=f"ends after line {kept}"):
        reopened(path, start=end_of(lines[:2]))


def test_repeated_appends_are_in_the_ledger_once(path):
    """Lines that are there already are dropped, also by the writer's next incarnation, and the rest is appended."""
    lines = sealed_lines(DURABLES)
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[:2])
        ledger.append(lines[:2])
        ledger.append([lines[1], lines[1], lines[2], lines[2]])
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[1:])
        ledger.sync()

    assert path.read_bytes() == as_file(lines)


def test_a_repeated_line_that_differs_is_refused(path):
    """Two different lines under one number mean two writers: nothing is written."""
    lines = sealed_lines(DURABLES)
    others = sealed_lines(DURABLES, text="idling")
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[:3])
        ledger.sync()
        with pytest.raises(LedgerDamaged, match="line 2 was appended again"):
            ledger.append([others[1], lines[3]])
    with LedgerFile.open(path, RUN) as ledger, pytest.raises(LedgerDamaged, match="line 3 was appended again"):
        ledger.append([others[2]])

    assert path.read_bytes() == as_file(lines[:3])


@pytest.mark.parametrize("given", [(2,), (1, 3), (1, 2, 4)])
def test_a_gap_is_refused(path, given):
    """A line whose predecessor is not there is not written, nor is anything that came with it."""
    lines = dict(sealed_lines(DURABLES))
    with LedgerFile.open(path, RUN) as ledger, pytest.raises(ValueError, match="does not follow"):
        ledger.append([(seq, lines[seq]) for seq in given])

    assert path.read_bytes() == b""


def test_a_line_that_does_not_follow_is_never_written(path):
    """The writer proves each line before it writes it, as a reader will."""
    lines = sealed_lines(DURABLES)
    stray = lines[1][1].replace(b'"m-2"', b'"m-3"')
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[:1])
        with pytest.raises(ValueError, match="line 2 does not follow"):
            ledger.append([(2, stray)])
        ledger.append(lines[1:])
        ledger.sync()

    assert path.read_bytes() == as_file(lines)


def test_append_when_the_disk_is_full(path, monkeypatch):
    """A write that fits only in part is undone to the last synced line; with room again, appending goes on."""
    lines = sealed_lines(DURABLES)
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[:1])
        ledger.sync()
        ledger.append(lines[1:2])
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", _half_then_full(os.write))
            with pytest.raises(StorageError, match="the disk is full"):
                ledger.append(lines[2:])
        assert (ledger.last_seq, ledger.last_chain, ledger.synced) == (1, end_of(lines[:1]).chain, end_of(lines[:1]))
        assert path.read_bytes() == as_file(lines[:1])
        ledger.append(lines)
        ledger.sync()

    assert path.read_bytes() == as_file(lines)


def test_append_past_the_file_size_limit(path):
    """The kernel's own refusal in the middle of a line is undone as well."""
    lines = sealed_lines(DURABLES)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[:2])
        ledger.sync()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (end_of(lines[:2]).offset + 50, limits[1]))
            with pytest.raises(StorageError, match="the file would grow past the size limit"):
                ledger.append(lines[2:])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == as_file(lines[:2])
        ledger.append(lines[2:])
        ledger.sync()

    assert path.read_bytes() == as_file(lines)


def test_nothing_is_trusted_after_a_failed_sync(path, monkeypatch):
    """After a failed sync the file is cut back to the last acknowledged line, and everything is written anew."""
    lines = sealed_lines(DURABLES)
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[:1])
        ledger.sync()
        ledger.append(lines[1:])
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", _failing_call(errno.EIO))
            with pytest.raises(StorageError, match="input/output error"):
                ledger.sync()
        assert path.read_bytes() == as_file(lines[:1])
        assert (ledger.last_seq, ledger.synced_seq) == (1, 1)
        ledger.append(lines[1:])
        ledger.sync()

    assert reopened(path) == (end_of(lines), None)


def test_lines_may_be_sealed_anew_after_a_failed_sync(path, monkeypatch):
    """What was undone is forgotten: other lines under the same numbers take its place, and can be repeated."""
    lines = sealed_lines((0, 1, 2, 3))
    anew = lines[:1] + sealed_lines((0, 1, 1, 1))[1:]
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[:1])
        ledger.sync()
        ledger.append(lines[1:])
        calls = []
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", _failing_call(errno.EIO))
            for name in ("truncate", "sync_file"):
                patched.setattr(disk, name, _recording(calls, name, getattr(disk, name)))
            with pytest.raises(StorageError):
                ledger.sync()
        ledger.append(anew)
        ledger.append(anew)
        ledger.sync()

    assert calls == ["truncate", "sync_file"]
    assert path.read_bytes() == as_file(anew)


def test_a_disk_that_refuses_the_undoing_too_is_asked_again_first(path, monkeypatch):
    """Nothing is appended behind bytes that could not be removed: the undoing comes first when the disk is back."""
    lines = sealed_lines(DURABLES)
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[:1])
        ledger.sync()
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", _half_then_full(os.write))
            patched.setattr(os, "ftruncate", _failing_call(errno.EIO))
            with pytest.raises(StorageError, match="cannot write: the disk is full"):
                ledger.append(lines[1:])
            with pytest.raises(StorageError, match="cannot truncate"):
                ledger.append(lines[1:])
            with pytest.raises(StorageError, match="cannot truncate"):
                ledger.sync()
        assert ledger.last_seq == 1
        ledger.append(lines[1:])
        ledger.sync()

    assert path.read_bytes() == as_file(lines)


def test_a_write_broken_off_by_a_signal_is_undone(path, monkeypatch):
    """An exception from a signal handler in the middle of a write leaves nothing half-written behind."""
    lines = sealed_lines(DURABLES)
    with LedgerFile.open(path, RUN) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(disk, "write", _half_then_interrupt)
            with pytest.raises(KeyboardInterrupt):
                ledger.append(lines)
        ledger.append(lines)
        ledger.sync()

    assert path.read_bytes() == as_file(lines)


def test_a_second_writer_is_noticed(path):
    """Bytes that the writer did not write stop it before it appends behind them."""
    lines = sealed_lines(DURABLES)
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append(lines[:1])
        with path.open("ab") as stranger:
            stranger.write(lines[1][1] + b"\n")
        with pytest.raises(LedgerDamaged, match="its writer left it with"):
            ledger.append(lines[1:])


def test_a_removed_ledger_is_noticed(path):
    """Appending to a file that has lost its name would lose every entry: it is refused."""
    lines = sealed_lines(DURABLES)
    with LedgerFile.open(path, RUN) as ledger:
        path.unlink()
        with pytest.raises(LedgerDamaged, match="removed"):
            ledger.append(lines)


def test_a_ledger_of_another_run_is_refused(path):
    """The first line chains from the run id, so a renamed ledger does not pass for another run's."""
    write_ledger(path, DURABLES)

    with pytest.raises(LedgerDamaged, match="line 1"):
        LedgerFile.open(path, "run-20260101-000000-ffffffff")


def test_a_ledger_of_lorch_1_5_is_not_appended_to(path):
    """The first line decides: a ledger without our key is refused by the writer and left untouched."""
    path.write_bytes(progress(1) + b"\n")

    with pytest.raises(UsageError, match=r"lorch 1\.5"):
        reopened(path)

    assert path.read_bytes() == progress(1) + b"\n"


def test_a_line_of_a_megabyte_goes_through(path):
    """A line much longer than a message may be, but not longer than a line may be, is written and read again."""
    line, chain = seal(progress(1, "x" * 1_000_000), 1, 0, RUN)
    after, _ = seal(progress(2), 2, 1, chain)
    with LedgerFile.open(path, RUN) as ledger:
        ledger.append([(1, line), (2, after)])
        ledger.sync()

    assert reopened(path) == (end_of([(1, line), (2, after)]), None)


def test_closing_twice_is_harmless(path):
    """A second close does not close a descriptor that is somebody else's by now."""
    ledger = LedgerFile.open(path, RUN)
    ledger.close()
    other = os.open(path, os.O_RDONLY)
    ledger.close()

    os.close(other)


def test_a_failed_open_leaves_no_descriptor(path):
    """Opening in vain, again and again, does not use up descriptors."""
    write_ledger(path, DURABLES)
    path.write_bytes(path.read_bytes().replace(b'"m-1"', b'"m-9"'))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(LedgerDamaged):
            reopened(path)

    assert len(os.listdir("/proc/self/fd")) == before


def _failing(number):
    def fail(*_):
        raise disk.storage_error("do it", "there", OSError(number, os.strerror(number)))

    return fail


def _failing_call(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


def _half_then_full(write):
    calls = []

    def write_half(fd, data):
        calls.append(1)
        if len(calls) == 1:
            return write(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return write_half


def _half_then_interrupt(fd, data):
    os.write(fd, data[: len(data) // 2])
    raise KeyboardInterrupt


def _recording(calls, name, function):
    def recorded(*args):
        calls.append(name)
        return function(*args)

    return recorded
