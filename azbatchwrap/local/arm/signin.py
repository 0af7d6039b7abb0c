"""What clients ask before they may ask anything: which cloud this is, and for a token. And our own admin routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azbatchwrap.local.arm.errors import ArmError, bad_request
from azbatchwrap.local.arm.exchange import Answer, Request
from azbatchwrap.local.arm.names import CLIENT_ID, CLOUD, TENANT, TENANT_ID
from azbatchwrap.local.arm.router import Route
from azbatchwrap.local.arm.tokens import LIFETIME_SECONDS

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

#: Addresses that answer without a token. The az CLI puts a slash behind the login endpoint that ends in one.
OPEN = ("/metadata/endpoints", f"/{TENANT}/", f"//{TENANT}/", "/discovery", "/_local/health")
#: Addresses of our own, for who knows the client secret.
ADMIN = "/_local/"


def endpoints(_arm: Arm, request: Request) -> Answer:
    """The cloud's addresses, as ``ARM_CLOUD_METADATA_URL`` names them to clients.

    ``portal`` keeps its public name: azure-ai-ml makes the audience ``https://ml.azure.com`` from it.
    """
    cloud: dict[str, Any] = {
        "name": CLOUD,
        "portal": "https://portal.azure.com/",
        "resourceManager": f"{request.base}/",
        "authentication": {
            "loginEndpoint": f"{request.base}/",
            "audiences": [f"{request.base}/", "https://management.azure.com/"],
            "tenant": TENANT,
            "identityProvider": "ADFS",
        },
        "graph": f"{request.base}/graph",
        "gallery": f"{request.base}/gallery",
        "batch": "https://batch.core.windows.net/",
        "suffixes": {
            "storage": "core.windows.net",
            "keyVaultDns": "vault.azure.net",
            "acrLoginServer": "azurecr.io",
        },
    }
    return Answer(200, _cloud_of(cloud, request.version or "2019-05-01"))


def _cloud_of(cloud: dict[str, Any], version: str) -> object:
    """In the shape of the api-version: all clouds in a list, only the cloud itself since 2022, fewer words up to 2018."""
    if version >= "2022-09":
        return cloud
    if version >= "2019":
        return [cloud]
    return {
        **{f"{name}Endpoint": cloud[name] for name in ("gallery", "graph", "portal")},
        "authentication": {name: cloud["authentication"][name] for name in ("loginEndpoint", "audiences")},
    }


def discovery(_arm: Arm, request: Request) -> Answer:
    """The OpenID configuration."""
    place = f"{request.base}/{TENANT}"
    return Answer(
        200,
        {
            "issuer": place,
            "token_endpoint": f"{place}/oauth2/token",
            "authorization_endpoint": f"{place}/oauth2/authorize",
            "device_authorization_endpoint": f"{place}/oauth2/devicecode",
        },
    )


def token(arm: Arm, request: Request) -> Answer:
    """OAuth 2 client credentials: whoever knows the instance's secret gets a token for what was asked."""
    form = request.form()
    if form.get("grant_type") != "client_credentials":
        return Answer(400, {"error": "unsupported_grant_type", "error_description": "only client_credentials"})
    if not arm.tokens.is_secret(form.get("client_secret", "")):
        description = "AADSTS7000215: Invalid client secret provided (see `azbatchwrap local env`)."
        return Answer(401, {"error": "invalid_client", "error_description": description})
    audience = (form.get("scope") or form.get("resource") or "").split(" ")[0].removesuffix("/.default")
    if not audience:
        return Answer(400, {"error": "invalid_scope", "error_description": "no scope was asked for"})
    answer = {"token_type": "Bearer", "expires_in": LIFETIME_SECONDS, "access_token": arm.tokens.issue(audience)}
    return Answer(200, answer)


def health(_arm: Arm, _request: Request) -> Answer:
    return Answer(200, {"status": "up", "tenantId": TENANT_ID, "clientId": CLIENT_ID})


def faults(arm: Arm, request: Request) -> Answer:
    """``GET`` shows the faults in force, ``POST`` adds one, ``DELETE`` takes all back."""
    if request.method == "POST":
        return Answer(201, {"id": arm.faults.add(request.json())})
    if request.method == "DELETE":
        arm.faults.clear()
    return Answer(200, {"value": arm.faults.all()})


def journal(arm: Arm, request: Request) -> Answer:
    """The requests after ``?since=NUMBER``."""
    since = request.query.get("since", "0")
    if not since.isdecimal():
        raise bad_request("since is the number of a request.")
    return Answer(200, {"last": arm.journal.last, "value": arm.journal.since(int(since))})


def check_admin(arm: Arm, request: Request) -> None:
    """Raises ArmError unless the request carries the client secret as a bearer token."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not arm.tokens.is_secret(secret.strip()):
        raise ArmError(401, "AuthenticationFailed", "The admin routes ask for the client secret as a bearer token.")


ROUTES: list[Route] = [
    ("GET", "/metadata/endpoints", endpoints),
    ("GET", f"/{TENANT}/.well-known/openid-configuration", discovery),
    ("GET", f"/{TENANT}/v2.0/.well-known/openid-configuration", discovery),
    ("POST", f"/{TENANT}/oauth2/token", token),
    ("POST", f"/{TENANT}/oauth2/v2.0/token", token),
    ("GET", f"{ADMIN}health", health),
    ("GET POST DELETE", f"{ADMIN}faults", faults),
    ("GET", f"{ADMIN}requests", journal),
]
