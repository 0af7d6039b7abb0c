"""The Speech Batch Kit: many sound files, transcribed on many speech containers. `run-batch-client` is its command."""

from __future__ import annotations

from azbatchwrap.speechkit.batch import SpeechBatchRequest, SpeechConfig, SpeechRunSummarizer
from azbatchwrap.speechkit.endpoints import Api, SpeechEndpointStatusChecker, parser
from azbatchwrap.speechkit.wishes import Channels, Diarization, Profanity, Wishes

__all__ = [
    "Api",
    "Channels",
    "Diarization",
    "Profanity",
    "SpeechBatchRequest",
    "SpeechConfig",
    "SpeechEndpointStatusChecker",
    "SpeechRunSummarizer",
    "Wishes",
    "parser",
]
