"""The autoscale formula language of Azure Batch pools, and the samples its formulas look back at."""

from __future__ import annotations

from .errors import AutoscaleError
from .evaluation import DEALLOCATION_OPTIONS, Evaluation, PoolNow, check, evaluate
from .samples import METRICS, SAMPLE_PERIOD, Sample, SampleHistory, SampleSource

__all__ = [
    "DEALLOCATION_OPTIONS",
    "METRICS",
    "SAMPLE_PERIOD",
    "AutoscaleError",
    "Evaluation",
    "PoolNow",
    "Sample",
    "SampleHistory",
    "SampleSource",
    "check",
    "evaluate",
]
