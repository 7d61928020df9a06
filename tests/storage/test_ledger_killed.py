"""The ledger's writer, killed for real."""

import os
import signal
import subprocess
import sys

import pytest
from ledger_making import RUN, as_file, end_of, sealed_lines, torn_files, write_ledger

from lorch_actors.errors import LedgerDamaged
from lorch_actors.storage.ledger import LedgerFile, read_lines

OPEN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from lorch_actors.storage import disk
from lorch_actors.storage.ledger import LedgerFile
setattr(disk, sys.argv[3], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
LedgerFile.open(Path(sys.argv[1]), sys.argv[2])
"""

APPEND_FOR_EVER = """
import sys
from pathlib import Path
from lorch_actors.storage.ledger import LedgerFile
from lorch_actors.storage.ledger_format import seal
with LedgerFile.open(Path(sys.argv[1]), sys.argv[2]) as ledger:
    while True:
        lines, chain = [], ledger.last_chain
        for seq in range(ledger.last_seq + 1, ledger.last_seq + 20):
            line, chain = seal(b'{"kind":"log","n":%d}' % seq, seq, ledger.synced_seq, chain)
            lines.append((seq, line))
        ledger.append(lines)
        ledger.sync()
        print(ledger.synced_seq, flush=True)
"""


@pytest.mark.parametrize(
    "step", ["sync_file", "sync_directory", "read", "create", "write", "replace", "truncate", "unlink"]
)
def test_killed_during_repair_the_next_open_finishes_it(tmp_path, step):
    """A repair that is killed before any of its steps leaves nothing worse: the next open ends at the same place."""
    path = tmp_path / f"{RUN}.ndjson"
    lines = write_ledger(path, (0, 1, 1, 3))
    path.write_bytes(as_file(lines) + b"torn")
    subprocess.run([sys.executable, "-c", OPEN_AND_DIE, path, RUN, step], check=False)

    with LedgerFile.open(path, RUN) as ledger:
        assert ledger.synced == end_of(lines)

    assert torn_files(path) == [b"torn"]
    assert path.read_bytes() == as_file(lines)


def test_killed_while_it_appends_no_acknowledged_line_is_lost(tmp_path):
    """Whenever the writer is killed, every number it reported is there at the next open, and appending goes on."""
    path = tmp_path / f"{RUN}.ndjson"
    for acknowledgements in (1, 2, 5, 9):
        writer = subprocess.Popen(
            [sys.executable, "-c", APPEND_FOR_EVER, path, RUN], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        acknowledged = [int(writer.stdout.readline()) for _ in range(acknowledgements)]
        writer.kill()
        rest, _ = writer.communicate()
        acknowledged += [int(number) for number in rest.split("\n")[:-1]]

        assert writer.returncode == -signal.SIGKILL
        with LedgerFile.open(path, RUN) as ledger:
            assert ledger.last_seq >= acknowledged[-1]
            assert [line.seq for line in read_lines(path, RUN)] == list(range(1, ledger.last_seq + 1))


def test_a_stopped_writer_that_wakes_up_does_not_write_into_another_ones_ledger(tmp_path):
    """A writer that finds more in the file than it left there stops before it adds to it."""
    path = tmp_path / f"{RUN}.ndjson"
    lines = sealed_lines((0, 1, 2))
    sleeper = LedgerFile.open(path, RUN)
    with LedgerFile.open(path, RUN) as successor:
        successor.append(lines[:2])
        successor.sync()

    with pytest.raises(LedgerDamaged, match="its writer left it with"):
        sleeper.append(lines)

    sleeper.close()
    assert path.read_bytes() == as_file(lines[:2])
    assert os.listdir(tmp_path) == [path.name]
