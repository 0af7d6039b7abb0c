"""What a job's tasks are, from tuples, from seed-style ``task.json`` or YAML, or from tables: reading and checking only.

A manifest file is a JSON or YAML object (`TOP_KEYS`) whose ``JOB_MANIFEST`` is a list of entries (`ENTRY_KEYS`), or
that list alone, or a table: JSON lines with one entry per line, or CSV/TSV with one entry per row. Keys are compared
without case. Every fault of a file is reported at once; nothing is uploaded or submitted from here.
"""

from __future__ import annotations

from .entries import ENTRY_KEYS, TOP_KEYS
from .files import check_inputs, read
from .modules import chain_number
from .records import Manifest, TaskRecord
from .tuples import from_tuples
from .values import JSON, parse_duration, split_words

__all__ = [
    "ENTRY_KEYS",
    "JSON",
    "TOP_KEYS",
    "Manifest",
    "TaskRecord",
    "chain_number",
    "check_inputs",
    "from_tuples",
    "parse_duration",
    "read",
    "split_words",
]
