"""Fuzz the parsers with atheris, guided by coverage, and keep inputs that reach new code in the repository.

``python tools/fuzz.py --minutes 5 json url`` fuzzes these parsers, each for five minutes. An input that shows a fault
is reduced, stored as ``tests/fuzz/corpus/<parser>/found-...``, and reported. ``make fuzz`` runs all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "tests/fuzz/corpus"
WORK = ROOT / ".fuzz"
# The repository keeps this much for each parser.
MOST_FILES = 26
MOST_BYTES = 40_000
LONGEST = 2048

Target = Callable[[bytes], None]


def targets() -> dict[str, Target]:
    """Return the parsers. They are imported late, so that atheris can instrument them."""
    sys.path.insert(0, str(ROOT / "tests/support"))
    from fuzz_targets import TARGETS

    return TARGETS


def explore(name: str, seconds: int) -> None:
    """Fuzz one parser in this process, until the time is over or an input shows a fault."""
    import atheris

    with atheris.instrument_imports(include=["couchdal"]):
        found = targets()[name]
    working = WORK / name
    working.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=20", "-rss_limit_mb=2048", "-verbosity=1",
               f"-artifact_prefix={WORK}/crash-{name}-", str(working), str(CORPUS / name)]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], found)
    atheris.Fuzz()


def fault_of(target: Target, data: bytes) -> str | None:
    """Return the type and place of what an input raises, or ``None``."""
    try:
        target(data)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
    return None


def smallest(target: Target, data: bytes) -> bytes:
    """Return a part of an input that shows the same fault."""
    fault = fault_of(target, data)
    size = len(data) // 2
    while size and fault is not None:
        start = 0
        while start < len(data):
            shorter = data[:start] + data[start + size :]
            if fault_of(target, shorter) == fault:
                data = shorter
            else:
                start += size
        size //= 2
    return data


def reached(target: Target, data: bytes) -> frozenset[tuple[str, int, int]]:
    """Return the steps between lines of couchdal that an input takes."""
    steps: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        if "couchdal" not in file:
            return None
        last = 0

        def step(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal last
            if event == "line":
                steps.add((file, last, frame.f_lineno))
                last = frame.f_lineno
            return step

        return step

    sys.settrace(trace)
    try:
        target(data)
    except Exception:
        steps.add(("fault", 0, 0))
    finally:
        sys.settrace(None)
    return frozenset(steps)


def distil(name: str, target: Target) -> int:
    """Keep, in the repository, the inputs that together reach the most code. Return their number."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    kept = {file for file in folder.iterdir() if file.name.startswith(("found-", "seed-"))}
    files = sorted({*folder.iterdir(), *(WORK / name).glob("*")} - kept, key=lambda file: file.stat().st_size)
    inputs = {file.read_bytes(): None for file in files if file.stat().st_size <= LONGEST}
    steps = {data: reached(target, data) for data in inputs}
    chosen: list[bytes] = []
    covered = frozenset[tuple[str, int, int]]().union(*(reached(target, file.read_bytes()) for file in kept))
    size = sum(file.stat().st_size for file in kept)
    while steps and len(chosen) + len(kept) < MOST_FILES:
        best = max(steps, key=lambda data: (len(steps[data] - covered), -len(data)))
        if not steps[best] - covered or size + len(best) > MOST_BYTES:
            break
        covered |= steps.pop(best)
        chosen.append(best)
        size += len(best)
    # Compiled code is not traced, and atheris kept these for some reason: a few of every length.
    others = list(steps)
    for data in others[:: max(1, len(others) // 8)]:
        if len(chosen) + len(kept) < MOST_FILES and size + len(data) <= MOST_BYTES:
            chosen.append(data)
            size += len(data)
    for file in [*folder.iterdir()]:
        if file not in kept:
            file.unlink()
    for data in chosen:
        (folder / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
    return len(chosen) + len(kept)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--explore", metavar="PARSER", help="fuzz one parser in this process")
    parser.add_argument("parsers", nargs="*")
    options = parser.parse_args()
    if options.explore:
        explore(options.explore, int(options.minutes * 60))
        return 0
    known = targets()
    faults = 0
    for name in options.parsers or known:
        WORK.mkdir(exist_ok=True)
        command = [sys.executable, __file__, "--explore", name, "--minutes", str(options.minutes)]
        log = WORK / f"{name}.log"
        with log.open("wb") as output:
            status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
        for crash in WORK.glob(f"crash-{name}-*"):
            data = crash.read_bytes()
            small = smallest(known[name], data)
            found = CORPUS / name / f"found-{hashlib.sha256(small).hexdigest()[:8]}"
            found.write_bytes(small)
            crash.unlink()
            faults += 1
            print(f"{name}: {fault_of(known[name], small) or 'slow'}: {found.relative_to(ROOT)}: {small[:200]!r}")
        if status and not faults:
            faults += 1
            print(f"{name}: atheris ended with status {status}: see {log}")
        runs = [line for line in log.read_text("utf-8", "replace").splitlines() if line.startswith("Done ")]
        kept = distil(name, known[name])
        print(f"{name}: {runs[-1] if runs else 'stopped at a fault'}; {kept} inputs kept", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
