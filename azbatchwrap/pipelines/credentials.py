"""Who signs in to the management plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azbatchwrap.errors import ConfigurationError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential


class Nobody:
    """Signs in nobody: for what asks Azure nothing."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        raise ConfigurationError(f"nothing is asked of Azure offline, but a token for {scopes} was wanted")


def default_credential() -> TokenCredential:
    """Whoever the machine is signed in as: environment, managed identity, ``az login``."""
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()
