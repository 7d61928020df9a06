"""Runs the rows: ``python -m benchmarks [row…] [--quick] [--json] [--save]``."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.figures import Figure, Growth, Result, Skipped
from benchmarks.machine import describe
from benchmarks.rows import ROWS

HERE = Path(__file__).parent
PICTURE = HERE.parent / "docs" / "performance.svg"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return 0, or 1 when a row failed. A missed target is told, not an error."""
    options = _options(argv)
    document: dict[str, Any] = {"machine": describe(), "quick": options.quick, "rows": []}
    growths: list[Growth] = []
    has_failed = False
    for name in options.rows or ROWS:
        began = time.perf_counter()
        results = list(_measured(name, quick=options.quick))
        growths += [one for one in results if isinstance(one, Growth)]
        has_failed |= any(isinstance(one, Skipped) and one.what == name for one in results)
        document["rows"].append(_as_row(name, results, time.perf_counter() - began))
        if not options.json:
            _print(document["rows"][-1])
    if options.json:
        print(json.dumps(document, indent=1))
    if options.save:
        _save(document, growths)
    return int(has_failed)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what is fast.")
    parser.add_argument("rows", nargs="*", metavar="row", help=f"one of: {', '.join(ROWS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer repeats: a look, no result")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--save", action="store_true", help="keep the result and draw the picture")
    options = parser.parse_args(argv)
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; there are: {', '.join(ROWS)}")
    return options


def _measured(name: str, *, quick: bool) -> Iterator[Result]:
    """Yield what a row yields; one that fails is told, and the others go on."""
    try:
        yield from import_module(f"benchmarks.rows.{name}").measure(quick=quick)
    except (OSError, RuntimeError, ValueError) as error:
        yield Skipped(name, f"it failed: {error}")


def _as_row(name: str, results: list[Result], took_s: float) -> dict[str, Any]:
    figures = [asdict(one) | {"ratio": one.ratio, "verdict": one.verdict} for one in results if isinstance(one, Figure)]
    return {
        "row": name,
        "title": import_module(f"benchmarks.rows.{name}").TITLE,
        "took_s": round(took_s, 1),
        "figures": figures,
        "growth": [asdict(one) for one in results if isinstance(one, Growth)],
        "skipped": [asdict(one) for one in results if isinstance(one, Skipped)],
    }


def _print(row: dict[str, Any]) -> None:
    print(f"{row['row']}: {row['title']} ({row['took_s']} s)")
    for one in row["figures"]:
        wanted = "" if one["target"] is None else f", {one['bound']} {one['target']:g}"
        print(
            f"  {one['verdict']:6}  {one['what']}: {one['value']:.3g} {one['unit']}; {one['reference']}: "
            f"{one['reference_value']:.3g}; ratio {one['ratio']:.2f}{wanted}"
        )
    for one in row["skipped"]:
        print(f"  skipped {one['what']}: {one['reason']}")
    sys.stdout.flush()


def _save(document: dict[str, Any], growths: list[Growth]) -> None:
    machine = document["machine"]
    path = HERE / "results" / f"{machine['date'][:10]}-{machine['commit']}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    if growths:
        PICTURE.write_text(plot.draw(growths))
    print(f"kept in {path.relative_to(HERE.parent)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
