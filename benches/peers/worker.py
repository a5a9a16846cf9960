"""How a peer talks to `cargo xtask bench --peers`.

A worker prepares its row once and prints `ready`. After that every line `round` on its standard input starts one timed
round, answered by one line of JSON: `{"seconds": 1.9, "work": 2048.0}`, where `work` counts what the row is measured in
(views, images, iterations, queries). At the end of its input it stops what it started and exits with 0. Whatever else is
printed, by a library for instance, goes to standard error, and so does the reason of a failure, with exit code 1.
"""

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

Settings = dict[str, list[str]]
Round = Callable[[], dict[str, Any]]
Prepare = Callable[[argparse.Namespace], Round]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors exit with 1, as all errors of a worker do."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}\n")


def serve(settings: Settings, prepare: Prepare) -> None:
    """Runs a script: reads its arguments, calls `prepare(options)` for the row, then answers rounds.

    `settings` maps each row to its settings, first what the peer's documentation advises. A `prepare` that has already
    given the answer (see `reply`) returns a round that is never called.
    """
    options = parse(settings)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    options.answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    one_round = prepare(options)
    gc.collect()
    print("ready", file=options.answers, flush=True)
    for line in sys.stdin:
        if line.strip() != "round":
            sys.exit(f"expected the line `round`, got {line.strip()!r}")
        reply(options, one_round())
    # Data loaders end their workers when nothing refers to them any more.
    del one_round
    gc.collect()


def reply(options: argparse.Namespace, answer: dict[str, Any]) -> None:
    """Prints one answer as a line of JSON."""
    print(json.dumps(answer), file=options.answers, flush=True)


def parse(settings: Settings) -> argparse.Namespace:
    """The arguments that all scripts share, checked against `settings`; answers `--list-settings` and exits."""
    parser = Parser()
    parser.add_argument("--row", choices=settings)
    parser.add_argument("--setting", help="one of the row's settings; the first without this")
    parser.add_argument("--data", type=Path, help="folder of the inputs that both sides read")
    parser.add_argument("--threads", type=int, default=2, help="threads of the peer, and workers of its data loader")
    parser.add_argument("--scale", type=float, default=1.0, help="share of a round's work to do: 0.1 for a quick look")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list-settings", action="store_true", help="print {row: [settings]} and exit")
    options = parser.parse_args()
    if options.list_settings:
        print(json.dumps(settings))
        sys.exit(0)
    if options.row is None:
        parser.error("--row is missing")
    options.setting = options.setting or settings[options.row][0]
    if options.setting not in settings[options.row]:
        known = ", ".join(settings[options.row])
        parser.error(f"--setting {options.setting}: {options.row} has {known}")
    if options.threads < 1 or not 0 < options.scale <= 1:
        parser.error("--threads is at least 1, and --scale above 0 and at most 1")
    return options


def needed(options: argparse.Namespace, name: str) -> Path:
    """The path of an input in the data folder; ends the script when it is not there."""
    if options.data is None:
        sys.exit(f"--data is missing: {options.row} reads {name}")
    path = options.data / name
    if not path.exists():
        sys.exit(f"{path} is missing: {options.row} reads it")
    return path


def scaled(options: argparse.Namespace, count: int, multiple: int = 1) -> int:
    """`count` times `--scale`, as a multiple of `multiple` that is not zero."""
    return max(1, round(count * options.scale / multiple)) * multiple


def repeated(options: argparse.Namespace, step: Callable[[], None], seconds: float) -> Round:
    """Rounds of a short `step`, repeated so often that a round takes about `seconds`; one iteration is one of work."""
    step()  # Compiles, allocates, wakes the threads.
    times = []
    while len(times) < 3 or (sum(times) < 0.2 and len(times) < 50):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    iterations = max(1, round(seconds * options.scale / min(times)))

    def one_round() -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(iterations):
            step()
        return {"seconds": time.perf_counter() - started, "work": float(iterations)}

    return one_round


def seconds_since_start() -> float:
    """How long ago this process began, imports included (Linux)."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def memory() -> dict[str, int]:
    """Peak memory of this process and all that it started and that still run, in bytes (Linux).

    `peak_bytes` is the sum of the peaks of resident memory. It counts a page once for every process that maps it;
    `peak_unshared_bytes` takes off what is counted twice now, so that libraries and forked data count once.
    """
    peak = shared = 0
    for process in family(os.getpid()):
        status, rollup = fields(process, "status"), fields(process, "smaps_rollup")
        peak += status.get("VmHWM", 0)
        shared += rollup.get("Rss", 0) - rollup.get("Pss", 0)
    return {"peak_bytes": peak, "peak_unshared_bytes": peak - shared}


def family(process: int) -> Iterable[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # It ended meanwhile.
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [process]
    for process in found:
        found += children.get(process, [])
    return found


def fields(process: int, file: str) -> dict[str, int]:
    """The sizes in a file like /proc/PID/status, in bytes."""
    try:
        lines = Path(f"/proc/{process}/{file}").read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines)
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}
