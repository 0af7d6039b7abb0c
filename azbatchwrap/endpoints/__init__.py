"""What is known about the places that requests are sent to: capacity, health, limits."""

from __future__ import annotations

from .checker import EndpointStatusChecker
from .endpoint import Answer, Endpoint
from .health import HealthPolicy
from .pool import EndpointPool
from .source import EndpointFile
from .spec import EndpointSpec, in_process, parse_endpoint, parse_endpoints, read_endpoints

__all__ = [
    "Answer",
    "Endpoint",
    "EndpointFile",
    "EndpointPool",
    "EndpointSpec",
    "EndpointStatusChecker",
    "HealthPolicy",
    "in_process",
    "parse_endpoint",
    "parse_endpoints",
    "read_endpoints",
]
