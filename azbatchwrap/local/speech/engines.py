"""What is understood: a fixed sentence, or what pocketsphinx hears with the English model of its wheel."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import multiprocessing
import os
import threading
from array import array
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.local.speech.sound import Utterance

EngineName = Literal["fixed", "sphinx"]
#: What the fixed engine hears in every utterance.
SENTENCE = "The quick brown fox jumps over the lazy dog."
#: At most so many readings of one utterance: as many as the service gives.
READINGS = 5
#: pocketsphinx's English model was made from speech at this rate (samples per second).
MODEL_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Word:
    """A word; ``offset`` (from the utterance's beginning) and ``duration`` are seconds."""

    text: str
    offset: float
    duration: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to understand an utterance. ``confidence`` is 0 to 1."""

    text: str
    confidence: float
    words: tuple[Word, ...] = ()


class Engine(Protocol):
    """Understands utterances; the most likely reading comes first, no reading means that nothing was understood."""

    async def understand(self, utterance: Utterance) -> Sequence[Reading]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FixedEngine:
    """Hears the same sentence in every utterance; each further reading lacks one more word."""

    sentence: str = SENTENCE

    async def understand(self, utterance: Utterance) -> Sequence[Reading]:
        words = self.sentence.split()
        lengths = range(len(words), max(0, len(words) - READINGS), -1)
        return [
            Reading(" ".join(words[:length]), round(0.95 - 0.1 * place, 2), _spread(words[:length], utterance.duration))
            for place, length in enumerate(lengths)
        ]

    def close(self) -> None: ...


def _spread(words: Sequence[str], duration: float) -> tuple[Word, ...]:
    share = duration / max(1, len(words))
    return tuple(Word(word, place * share, share) for place, word in enumerate(words))


class SphinxEngine:
    """pocketsphinx in worker processes: a decoder takes about 100 MB and a core while it works."""

    def __init__(self, workers: int | None = None) -> None:
        if importlib.util.find_spec("pocketsphinx") is None:
            raise ConfigurationError("the engine sphinx needs pocketsphinx: pip install 'azbatchwrap[speech]'")
        # Not forked: the service's sockets must not live on in a worker.
        context = multiprocessing.get_context("spawn")
        self._workers = ProcessPoolExecutor(workers or os.cpu_count(), context, initializer=_end_with_parent)

    async def understand(self, utterance: Utterance) -> Sequence[Reading]:
        return await asyncio.get_running_loop().run_in_executor(self._workers, _decode, utterance)

    def close(self) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)


def new_engine(name: EngineName, sentence: str = SENTENCE) -> Engine:
    """Raises ConfigurationError when what the engine needs is not installed."""
    return FixedEngine(sentence) if name == "fixed" else SphinxEngine()


def _end_with_parent() -> None:
    """A stand-in that is killed (what it is good for) must not leave its workers behind, which wait for it for ever."""

    def follow() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


_decoder: Any = None


def _decode(utterance: Utterance) -> list[Reading]:
    """Runs in a worker; the decoder is made once per worker."""
    global _decoder  # noqa: PLW0603  a worker process is the decoder
    if _decoder is None:
        import pocketsphinx  # type: ignore[import-untyped]

        _decoder = pocketsphinx.Decoder(samprate=MODEL_RATE, loglevel="FATAL")
    _decoder.start_utt()
    _decoder.process_raw(_resampled(utterance), full_utt=True)
    _decoder.end_utt()
    best = _decoder.hyp()
    if best is None or not best.hypstr:
        return []
    others = itertools.islice(_decoder.nbest(), 4 * READINGS)  # there are thousands, many of them the same words
    texts = [best.hypstr, *(found.hypstr for found in others if found is not None and found.hypstr)]
    words = _timed_words(_decoder)
    confidence = _decoder.get_logmath().exp(best.prob) if best.prob else 0.5
    return [
        Reading(_sentence(text), round(min(0.99, max(0.01, confidence)) / (place + 1), 4), words if place == 0 else ())
        for place, text in enumerate(list(dict.fromkeys(texts))[:READINGS])
    ]


def _timed_words(decoder: Any) -> tuple[Word, ...]:
    """Words of the best reading; pocketsphinx counts frames of 10 ms and marks silences and noises by <> and []."""
    return tuple(
        Word(segment.word.partition("(")[0], segment.start_frame / 100, (segment.end_frame - segment.start_frame) / 100)
        for segment in decoder.seg()
        if not segment.word.startswith(("<", "["))
    )


def _resampled(utterance: Utterance) -> bytes:
    """Mono PCM at the model's rate, between neighbours by a straight line."""
    if utterance.rate == MODEL_RATE:
        return utterance.samples
    source = array("h", utterance.samples)
    step = utterance.rate / MODEL_RATE
    count = int((len(source) - 1) / step) if source else 0
    made = array("h", bytes(2 * count))
    for place in range(count):
        at, share = divmod(place * step, 1.0)
        left = source[int(at)]
        made[place] = int(left + (source[int(at) + 1] - left) * share)
    return made.tobytes()


def _sentence(text: str) -> str:
    """``text`` as people write it: the service calls this its display form."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""
