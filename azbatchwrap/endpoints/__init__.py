"""What is known about the places that requests are sent to: capacity, health, limits."""

from __future__ import annotations

from .checker import EndpointStatusChecker
from .endpoint import Answer, Endpoint
from .spec import EndpointSpec, in_process, parse_endpoint, parse_endpoints, read_endpoints

__all__ = [
    "Answer",
    "Endpoint",
    "EndpointSpec",
    "EndpointStatusChecker",
    "in_process",
    "parse_endpoint",
    "parse_endpoints",
    "read_endpoints",
]
