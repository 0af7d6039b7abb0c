"""``python -m azbatchwrap.local.arm --config FILE``: Azure Resource Manager and Azure Machine Learning of this machine."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import uvloop

from azbatchwrap.local.arm.server import AlreadyRunning, locked, read_settings, serve


def main() -> int:
    """0 after a stop, 2 for a bad configuration, 3 when another service holds the data folder."""
    parser = argparse.ArgumentParser(prog="python -m azbatchwrap.local.arm", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file with data_dir, client_secret and storage")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    try:
        settings = read_settings(arguments.config)
        with locked(settings.data_dir):
            uvloop.run(serve(settings))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except AlreadyRunning as error:
        sys.stderr.write(f"{error}\n")
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
