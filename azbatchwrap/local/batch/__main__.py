"""``python -m azbatchwrap.local.batch --config FILE``: the Azure Batch service of this machine."""

from __future__ import annotations

from azbatchwrap.local import serving
from azbatchwrap.local.batch.server import read_settings, serve

if __name__ == "__main__":
    raise SystemExit(serving.run("azbatchwrap.local.batch", __doc__, read_settings, serve))
