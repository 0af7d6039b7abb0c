"""Fixtures: see the classes below."""

from __future__ import annotations
