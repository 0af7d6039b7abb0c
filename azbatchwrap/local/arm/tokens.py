"""Access tokens: JSON web tokens signed with the instance's own secret, so that they outlive a restart."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any

import orjson

from azbatchwrap.local.arm.errors import ArmError
from azbatchwrap.local.arm.names import CLIENT_ID, TENANT_ID

#: Clients refresh a token before this many seconds are over.
LIFETIME_SECONDS = 3600
#: Audiences that the management plane takes besides its own address.
MANAGEMENT = ("https://management.azure.com", "https://management.core.windows.net")
#: The audience of the scoring addresses.
MACHINE_LEARNING = "https://ml.azure.com"


class Tokens:
    """Issues and checks tokens. ``secret`` is the client secret that the instance's users sign in with."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._key = hashlib.sha256(b"azbatchwrap token signature\0" + secret.encode()).digest()

    def is_secret(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._secret.encode())

    def issue(self, audience: str, **further: str) -> str:
        """A token for ``audience``, with further claims."""
        now = int(time.time())
        claims = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{TENANT_ID}/",
            "iat": now,
            "nbf": now - 60,
            "exp": now + LIFETIME_SECONDS,
            "tid": TENANT_ID,
            "oid": CLIENT_ID,
            "appid": CLIENT_ID,
            "idtyp": "app",
            **further,
        }
        signed = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
        return f"{signed}.{self._sign(signed)}"

    def check(self, headers: Mapping[str, str], audiences: tuple[str, ...]) -> dict[str, Any]:
        """The token's claims. Raises ArmError 401 unless the request carries a token of ours for one of ``audiences`` that still lives."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _refused("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        claims = self._claims(token.strip())
        if claims is None:
            raise _refused("InvalidAuthenticationToken", "The access token is invalid.")
        if claims["exp"] < time.time():
            raise _refused("ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than now.")
        audience = str(claims["aud"]).rstrip("/")
        if audience not in audiences:
            raise _refused(
                "InvalidAuthenticationTokenAudience",
                f"The access token has been obtained for wrong audience or resource '{audience}'. "
                f"It should match one of {', '.join(audiences)}.",
            )
        return claims

    def _claims(self, token: str) -> dict[str, Any] | None:
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(self._sign(signed).encode(), signature.encode()):
            return None
        try:
            body = signed.split(".")[1]
            claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (IndexError, binascii.Error, orjson.JSONDecodeError):
            return None
        return claims

    def _sign(self, text: str) -> str:
        return _base64(hmac.new(self._key, text.encode(), hashlib.sha256).digest())


def _refused(code: str, message: str) -> ArmError:
    return ArmError(401, code, message, headers={"www-authenticate": "Bearer"})


def _encode(content: dict[str, Any]) -> str:
    return _base64(orjson.dumps(content))


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
