"""Who runs as which auto-user of a pool.

On Azure a pool's admin and non-admin auto-users are two users that cannot read each other's files. Here both are the
user of this machine, so that nothing fails: it is said instead, in the log and on the page.
"""

from __future__ import annotations

import logging
from typing import Any

from azbatchwrap.local.batch.model import Pool
from azbatchwrap.local.batch.shapes.parts import AUTO_USER

log = logging.getLogger(__name__)


def note(pool: Pool, spec: dict[str, Any], who: str) -> None:
    """Something with this ``userIdentity`` begins to run in the pool; warns once when the pool's users are mixed."""
    auto_user = (spec.get("userIdentity") or AUTO_USER).get("autoUser")
    if auto_user is None or auto_user["scope"] != "pool" or auto_user["elevationLevel"] in pool.auto_users:
        return
    pool.auto_users[auto_user["elevationLevel"]] = who
    if (warning := mixed(pool)) is not None:
        log.warning("pool %s: %s", pool.id, warning)


def mixed(pool: Pool) -> str | None:
    """What to say of a pool whose auto-users cannot share files on Azure; None when there is nothing to say."""
    if len(pool.auto_users) < 2:
        return None
    return (
        f"{pool.auto_users['admin']} runs as the admin auto-user and {pool.auto_users['nonadmin']} as the non-admin one. "
        "On Azure these two cannot read each other's files; on this machine both are you."
    )
