"""Managed identities of pools: where tasks get tokens for them, and what files they open.

Tasks find the token service as on App Service, by two variables: the address of their pool, and a secret that nobody
outside the pool's tasks is told. azure-identity's ``ManagedIdentityCredential`` looks there first.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

import orjson

from azbatchwrap.local.arm.tokens import LIFETIME_SECONDS, Tokens
from azbatchwrap.local.batch.exchange import Request, Response
from azbatchwrap.local.batch.model import Pool

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

#: Addresses that answer to the header in place of a signature.
PREFIX = "/_identity/"
HEADER = "x-identity-header"
#: How a request names one of several identities -> the member that it names.
_SELECTORS = {
    "client_id": "clientId",
    "clientid": "clientId",
    "object_id": "principalId",
    "principal_id": "principalId",
    "mi_res_id": "resourceId",
    "msi_res_id": "resourceId",
}


def of_pool(pool: Pool) -> list[dict[str, str]]:
    """The pool's user-assigned identities."""
    return list((pool.spec.get("identity") or {}).get("userAssignedIdentities") or ())


def resource_ids(pool: Pool) -> frozenset[str]:
    """What files may refer to, in lower case."""
    return frozenset(each["resourceId"].lower() for each in of_pool(pool))


def variables(service: Service, pool: Pool) -> dict[str, str]:
    """What tells the pool's tasks where their tokens are; nothing without identities."""
    if not of_pool(pool) or service.settings.token_secret is None:
        return {}
    return {
        "IDENTITY_ENDPOINT": f"{service.url}{PREFIX}{pool.id}/token",
        "IDENTITY_HEADER": _secret(service.settings.token_secret, pool.id),
    }


def answer(service: Service, request: Request) -> Response:
    """``GET …/token?resource=URL``: a token for one of the pool's identities."""
    if service.settings.token_secret is None:
        return _refusal(404, "This instance issues no tokens: azbatchwrap local up --management")
    pool_id, _, rest = request.raw_path.removeprefix(PREFIX).partition("/")
    pool = service.pools.get(unquote(pool_id).lower())
    given = request.headers.get(HEADER, "").encode()
    if pool is None or not hmac.compare_digest(_secret(service.settings.token_secret, pool.id).encode(), given):
        return _refusal(401, "The X-IDENTITY-HEADER is not that of a pool.")
    if rest != "token" or request.method != "GET":
        return _refusal(404, "Tokens are at …/token.")
    resource = request.query.get("resource", "")
    if not resource:
        return _refusal(400, "The query names no resource.")
    return _issued(service.settings.token_secret, _chosen(of_pool(pool), request), resource)


def _issued(secret: str, chosen: dict[str, str] | str, resource: str) -> Response:
    if isinstance(chosen, str):
        return _refusal(400, chosen)
    claims = {"appid": chosen["clientId"], "oid": chosen["principalId"], "xms_mirid": chosen["resourceId"]}
    body = {
        "access_token": Tokens(secret).issue(resource, **claims),
        "client_id": chosen["clientId"],
        "expires_on": str(int(time.time()) + LIFETIME_SECONDS),
        "resource": resource,
        "token_type": "Bearer",
    }
    return Response(200, orjson.dumps(body))


def _chosen(identities: list[dict[str, str]], request: Request) -> dict[str, str] | str:
    """The identity that the request names, or the only one; else what is wrong."""
    for name, member in _SELECTORS.items():
        if wanted := request.query.get(name, "").lower():
            found = [each for each in identities if each[member].lower() == wanted]
            return found[0] if found else f"The pool has no identity with the {member} {wanted[:256]}."
    if len(identities) != 1:
        return f"The pool has {len(identities)} identities: name one by its client_id or mi_res_id."
    return identities[0]


def _secret(key: str, pool_id: str) -> str:
    return hmac.digest(key.encode(), b"azbatchwrap identity of pool\0" + pool_id.lower().encode(), hashlib.sha256).hex()


def _refusal(status: int, message: str) -> Response:
    """In the form of App Service, so that clients show the message."""
    return Response(status, orjson.dumps({"statusCode": status, "message": message}))
