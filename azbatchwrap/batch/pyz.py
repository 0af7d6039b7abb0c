"""Builds ``engine.pyz``, the archive that a job preparation task runs on a node."""

from __future__ import annotations

import functools
import io
import zipfile
from importlib.resources import files

#: The engine's name on a node: not ``engine``, which a task's own module may well be called.
NODE_PACKAGE = "azbatchwrap_engine"
#: Every entry has the oldest time a zip file can hold, so that the same sources give the same bytes.
ENTRY_TIME = (1980, 1, 1, 0, 0, 0)

#: Readable by every Python 3, so that an old one gets this sentence and not a syntax error.
ENTRY_SCRIPT = f"""\
import sys

if sys.version_info < (3, 8):
    sys.exit("azbatchwrap needs Python 3.8 or later on the node, and this is %s" % sys.version.split()[0])
if __name__ == "__main__":
    from {NODE_PACKAGE} import main

    sys.exit(main(sys.argv[1:]))
"""


@functools.cache
def build_engine() -> bytes:
    """The archive as bytes: the engine's sources as data, byte for byte the same wherever it is built.

    Entries are stored, not compressed: compressed bytes differ between versions of zlib.
    """
    sources = {"__main__.py": ENTRY_SCRIPT.encode()}
    for entry in (files("azbatchwrap") / "engine").iterdir():
        if entry.name.endswith(".py"):
            sources[f"{NODE_PACKAGE}/{entry.name}"] = entry.read_bytes()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(name, ENTRY_TIME), source)
    return target.getvalue()
