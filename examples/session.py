"""Functions as tasks, in the manner of a notebook: 500 calls, one of which fails, and a picture of it all.

python examples/session.py [FOLDER] [CALLS]
"""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

from azbatchwrap import PoolPolicy, Session, as_completed

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs")
CALLS = int(sys.argv[2]) if len(sys.argv) > 2 else 500
POINTS = 20_000


def estimate_pi(seed):
    """Throw darts at a square; one of the seeds is bad luck."""
    if seed == 13:
        raise ValueError("thirteen brings bad luck", seed)
    dice = random.Random(seed)
    inside = sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(POINTS))
    return 4 * inside / POINTS


def mean(values):
    """The mean of the estimates that came; a failed one is None."""
    known = [value for value in values if value is not None]
    return {"pi": math.fsum(known) / len(known), "estimates": len(known)}


def draw(estimates, path):
    """A dot for each estimate, drawn here and not on a node."""
    dots = [
        f'<circle cx="{20 + number * 560 / CALLS:.1f}" cy="{150 - (value - math.pi) * 2000:.1f}" r="2"/>'
        for number, value in sorted(estimates.items())
    ]
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="600" height="300">' + "".join(dots) + "</svg>\n")


FOLDER.mkdir(parents=True, exist_ok=True)
session = Session("pi", pool=PoolPolicy.spot(2, floor=1), retries=1)
futures = session.map(estimate_pi, range(CALLS))
merged = session.options(on_failure="ignore").merge(mean, futures)

seeds = {future: seed for seed, future in enumerate(futures)}
estimates, failed = {}, {}
for future in as_completed(futures, progress=True):
    seed = seeds[future]
    if future.exception() is None:
        estimates[seed] = future.result()
    else:
        failed[seed] = future.exception()

draw(estimates, FOLDER / "estimates.svg")
session.timeline(FOLDER / "timeline.svg")
print(f"{len(estimates)} estimates, {len(failed)} failed: {failed}")
print(f"pi is about {merged.result()['pi']:.4f}, by {merged.result()['estimates']} estimates")
session.close()
