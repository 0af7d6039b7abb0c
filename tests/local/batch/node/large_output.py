"""Runs a task that prints 200 MB and uploads them, and one that gets them back; prints how much memory that took at most, in KiB. Arguments: node folder, container."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from azbatchwrap.local.batch.node import Launch, ProcessHost, Transfers, run


def peak() -> int:
    """KiB. The kernel's ru_maxrss would still hold what the process that forked us had."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


async def main(root: Path, container: str) -> None:
    host, transfers = ProcessHost(), Transfers()
    await transfers.start()
    outputs = [
        {"filePattern": "../stdout.txt", "destination": {"container": {"containerUrl": container, "path": "big.txt"}}}
    ]
    launch = Launch("head -c 209715200 /dev/zero", root / "big", {"PATH": "/usr/bin:/bin"}, output_files=outputs)
    before = peak()
    outcome = await run(launch, host, transfers, lambda _: None)
    assert outcome.succeeded, outcome
    blob = container.replace("?", "/big.txt?")
    back = Launch("test -s big", root / "back", {"PATH": "/usr/bin:/bin"}, [{"httpUrl": blob, "filePath": "big"}])
    outcome = await run(back, host, transfers, lambda _: None)
    await host.close()
    await transfers.close()
    assert outcome.succeeded, outcome
    sys.stdout.write(str(peak() - before))


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
