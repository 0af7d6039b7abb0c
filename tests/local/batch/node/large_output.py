"""Runs a task that prints 200 MB and uploads them; prints the peak memory in KiB. Arguments: node folder, container."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from azbatchwrap.local.batch.node import Launch, ProcessHost, Transfers, run


async def main(root: Path, container: str) -> None:
    host, transfers = ProcessHost(), Transfers()
    await transfers.start()
    outputs = [
        {"filePattern": "../stdout.txt", "destination": {"container": {"containerUrl": container, "path": "big.txt"}}}
    ]
    launch = Launch("head -c 209715200 /dev/zero", root / "big", {"PATH": "/usr/bin:/bin"}, output_files=outputs)
    outcome = await run(launch, host, transfers, lambda _: None)
    await host.close()
    await transfers.close()
    assert outcome.succeeded, outcome
    sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
