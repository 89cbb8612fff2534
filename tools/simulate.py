"""Simulate a server, a proxy, their clients, and everything that goes wrong, for one seed or for some minutes.

``make simulate MINUTES=1`` tries new seeds, and ``make simulate SEED=7`` repeats one. It prints the seed of a fault,
and the last bytes on the network before its end.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from random import SystemRandom

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests/support")]


def main() -> int:
    from simulation import Outcome, simulate

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="the seed to begin with; by default, a random one")
    parser.add_argument("--minutes", type=float, help="how long to try further seeds; by default, only one is tried")
    parser.add_argument("--seconds", type=float, default=60.0, help="the simulated time with faults for each seed")
    parser.add_argument("--digest", action="store_true", help="print only the digest of all bytes on the network")
    options = parser.parse_args()
    seed = SystemRandom().getrandbits(32) if options.seed is None else options.seed
    begun = time.monotonic()
    done: list[Outcome] = []
    failed: Outcome | None = None
    while failed is None and (not done or time.monotonic() - begun < 60.0 * (options.minutes or 0)):
        outcome = simulate(seed, options.seconds)
        if options.digest:
            print(outcome.digest)
            return 0
        done.append(outcome)
        failed = outcome if outcome.wrong else None
        seed += 1
    faults = sum((outcome.faults for outcome in done), Counter[str]())
    print(
        f"Simulation: {len(done)} seeds from {done[0].seed}, {sum(outcome.requests for outcome in done)} requests,"
        f" {sum(outcome.writes for outcome in done)} writes, {faults.total()} faults,"
        f" {sum(outcome.simulated_s for outcome in done) / 60:.0f} simulated minutes in"
        f" {time.monotonic() - begun:.0f} s"
    )
    print("  " + ", ".join(f"{count} x {kind}" for kind, count in faults.most_common()))
    if failed is None:
        return 0
    print(*failed.trace[-100:], sep="\n")
    print(*failed.wrong[:20], sep="\n")
    print(f"Seed {failed.seed} found a fault. Repeat it by: make simulate SEED={failed.seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
