"""``python -m azbatchwrap.local.arm --config FILE``: Azure Resource Manager and Azure Machine Learning of this machine."""

from __future__ import annotations

from azbatchwrap.local import serving
from azbatchwrap.local.arm.server import read_settings, serve

if __name__ == "__main__":
    raise SystemExit(serving.run("azbatchwrap.local.arm", __doc__, read_settings, serve))
