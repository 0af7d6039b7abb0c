"""The inference endpoint of the processor's tests."""

from __future__ import annotations

from tests.processor.conftest import inference

__all__ = ["inference"]
