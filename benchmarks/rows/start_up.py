"""How long the commands take that people wait for: `--help` and `status`."""

from collections.abc import Iterator

from benchmarks.figures import Figure, Result
from benchmarks.measuring import best_of, interpreter_s, own_python, place, run
from benchmarks.workspaces import make_workspace

TITLE = "start-up of --help and status"


def measure(*, quick: bool) -> Iterator[Result]:
    times = 7 if quick else 21
    with place() as directory:
        root = make_workspace(directory / "w", tasks=1)
        run(own_python("run", "--all"), root)
        reference = interpreter_s(times)
        for name, target in (("--help", 6.0), ("status", 9.0)):
            spent = best_of(times, own_python(name), root)
            yield Figure(f"{name}, wall", spent.wall_s * 1000, "ms", "bare interpreter", reference * 1000, target)
