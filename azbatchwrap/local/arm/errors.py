"""What the management plane refuses and how it says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ArmError(Exception):
    """A refusal: the HTTP status, the service's code and a sentence. ``details`` are (code, sentence) pairs."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON answer."""
        return {"error": error_record(self.code, self.message, self.details)}


def error_record(code: str, message: str, details: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """An error as answers and failed operations carry it."""
    record: dict[str, Any] = {"code": code, "message": message}
    if details:
        record["details"] = [{"code": inner, "message": text} for inner, text in details]
    return record


def bad_request(message: str, code: str = "InvalidRequestContent") -> ArmError:
    return ArmError(400, code, message)


def resource_not_found(kind: str, name: str, group: str) -> ArmError:
    """404 of a resource that does not exist."""
    return ArmError(
        404, "ResourceNotFound", f"The Resource '{kind}/{name}' under resource group '{group}' was not found."
    )


def group_not_found(name: str) -> ArmError:
    return ArmError(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")


def conflict(message: str, code: str = "Conflict") -> ArmError:
    return ArmError(409, code, message)
