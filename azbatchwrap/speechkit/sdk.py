"""The Speech SDK at work on one file. Runs in a worker process: a crash in the SDK's native code costs that item only."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azbatchwrap.batchkit import Endpoint, WorkItemProcessor, WorkItemRequest
from azbatchwrap.errors import (
    ConfigurationError,
    EndpointDown,
    FailedRecognitionError,
    WorkItemError,
)
from azbatchwrap.speechkit.audio import Samples, Sound, readable
from azbatchwrap.speechkit.endpoints import socket_url
from azbatchwrap.speechkit.results import Segment
from azbatchwrap.speechkit.wishes import Channels, Diarization, Wishes

log = logging.getLogger(__name__)

#: The SDK has to bring something new within this time, or the time that the rest of the sound takes (seconds).
PATIENCE = 180.0
#: Speakers are told apart at the end, so that results come late: this much longer (factor).
DIARIZATION_FACTOR = 4.0
#: After it has said that there is nothing more, the SDK's session stops within milliseconds (seconds).
ENDING = 5.0
#: What the SDK may hold back for a new attempt after a broken connection (milliseconds).
BUFFER = "1800000"


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkItem(WorkItemRequest):
    """A sound to transcribe from second ``start`` on. ``log_file``: where the SDK writes what it does."""

    sound: Sound
    wishes: Wishes
    start: float = 0.0
    log_file: Path | None = None
    scratch: Path | None = None


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was understood; with an ``error``, up to where. ``processed``: seconds that need not be done again."""

    segments: tuple[Segment, ...]
    processed: float
    error: WorkItemError | None = None


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of the sound for one run of the SDK: seconds, and a channel where they are apart."""

    start: float
    end: float
    channel: int | None = None


class SdkProcessor(WorkItemProcessor[SdkItem]):
    """Called in worker processes; has no state of its own."""

    def process(self, item: SdkItem, endpoint: Endpoint) -> Recognised:
        """Raises what `readable` raises, and ConfigurationError; other failures come with what was understood before."""
        with readable(item.sound, item.scratch) as sound, _logging_to(item.log_file):
            segments: list[Segment] = []
            for stretch in _stretches(sound, item.wishes, item.start):
                run = _Run(item, sound, stretch, endpoint)
                error = run.recognise()
                segments += run.segments
                if error is not None:
                    return Recognised(tuple(segments), run.processed, error)
            return Recognised(tuple(segments), sound.seconds)


def _stretches(sound: Sound, wishes: Wishes, start: float) -> Iterator[_Stretch]:
    """Channel by channel, and with several languages in pieces of limited length."""
    separate = sound.channels > 1 and wishes.channels is Channels.SEPARATE
    piece = wishes.max_segment if wishes.is_multilingual else math.inf
    for channel in range(sound.channels) if separate else [None]:
        at = start
        while at < sound.seconds:
            end = min(at + piece, sound.seconds)
            yield _Stretch(at, end, channel)
            at = end


class _Run:
    """One recognition.

    The SDK's callbacks only note what came: to stop it from inside of one costs 10 s. So does stopping a session that
    has ended with an error (when it is taken apart): what says that it has stopped is left alone.
    """

    def __init__(self, item: SdkItem, sound: Sound, stretch: _Stretch, endpoint: Endpoint) -> None:
        self._item = item
        self._sound = sound
        self._stretch = stretch
        self._endpoint = endpoint
        self._speech = _sdk()
        self._ending = threading.Event()
        self._over = threading.Event()
        self._cancelled: Any = None
        self._stream: Any = None  # the SDK's native side calls it, but does not keep it alive
        self._news = time.monotonic()
        self.segments: list[Segment] = []
        self.processed = stretch.start

    def recognise(self) -> WorkItemError | None:
        """The error that ended it early, if one did."""
        samples = Samples(self._sound, self._stretch.channel, self._stretch.start, self._stretch.end)
        try:
            recognizer = self._recognizer(samples)
            recognizer.start_continuous_recognition()
            in_time = self._wait()
            if not self._over.is_set():
                recognizer.stop_continuous_recognition()
        except RuntimeError as error:
            return FailedRecognitionError(f"{self._sound.path}: the Speech SDK says: {_first_line(error)}")
        finally:
            samples.close()
        if not in_time:
            return FailedRecognitionError("the Speech SDK made no progress and was given up")
        return self._error()

    def _recognizer(self, samples: Samples) -> Any:
        speech = self._speech
        languages = self._item.wishes.languages
        arguments: dict[str, Any] = {"speech_config": self._config(), "audio_config": self._audio(samples)}
        if self._item.wishes.is_multilingual:
            detection = speech.languageconfig.AutoDetectSourceLanguageConfig(languages=list(languages))
            arguments["auto_detect_source_language_config"] = detection
        recognizer = speech.SpeechRecognizer(**arguments)
        recognizer.recognized.connect(self._recognised)
        recognizer.canceled.connect(self._was_cancelled)
        recognizer.session_stopped.connect(self._has_stopped)
        return recognizer

    def _audio(self, samples: Samples) -> Any:
        audio = self._speech.audio
        form = audio.AudioStreamFormat(samples_per_second=self._sound.rate, bits_per_sample=16, channels=1)
        self._stream = audio.PullAudioInputStream(_puller(self._speech, samples), form)
        return audio.AudioConfig(stream=self._stream)

    def _config(self) -> Any:
        speech, wishes, options = self._speech, self._item.wishes, self._endpoint.options
        config = speech.SpeechConfig(host=socket_url(self._endpoint), subscription=options["subscription"])
        if wishes.is_multilingual:
            config.set_property(speech.PropertyId.SpeechServiceConnection_LanguageIdMode, "Continuous")
        else:
            config.speech_recognition_language = wishes.language
        config.output_format = speech.OutputFormat.Detailed
        config.request_word_level_timestamps()
        config.set_profanity(getattr(speech.ProfanityOption, wishes.profanity.value))
        for name, value in _query(wishes).items():
            config.set_service_property(name, value, speech.ServicePropertyChannel.UriQueryParameter)
        throttle = round(float(options["rtf"]) * 100)
        config.set_property_by_name("SPEECH-AudioThrottleAsPercentageOfRealTime", str(throttle))
        config.set_property_by_name("SPEECH-TransmitLengthBeforeThrottleMs", "0")
        config.set_property_by_name("SPEECH-MaxBufferSizeMs", BUFFER)
        return config

    def _recognised(self, event: Any) -> None:
        self._news = time.monotonic()
        if event.result.reason != self._speech.ResultReason.RecognizedSpeech or not event.result.json:
            return
        phrase = json.loads(event.result.json)
        spoken = phrase.get("PrimaryLanguage", {}).get("Language", self._item.wishes.language)
        segment = Segment(phrase, spoken, self._stretch.channel, self._stretch.start)
        self.segments.append(segment)
        self.processed = max(self.processed, segment.end)

    def _has_stopped(self, _: Any) -> None:
        self._over.set()
        self._ending.set()

    def _was_cancelled(self, event: Any) -> None:
        details = event.cancellation_details
        if details.reason == self._speech.CancellationReason.Error:
            self._cancelled = (details.code, details.error_details)
        self._ending.set()

    def _wait(self) -> bool:
        """Until it is over; false when nothing new came for too long."""
        rtf = float(self._endpoint.options["rtf"])
        slow = DIARIZATION_FACTOR if self._item.wishes.diarization is not Diarization.NONE else 1.0
        while True:
            patience = max(PATIENCE, (self._stretch.end - self.processed) / rtf) * slow
            if self._ending.wait(max(0.0, self._news + patience - time.monotonic())):
                self._over.wait(ENDING)
                return True
            if time.monotonic() >= self._news + patience:
                return False

    def _error(self) -> WorkItemError | None:
        if self._cancelled is None:
            return None
        code, details = self._cancelled
        codes = self._speech.CancellationErrorCode
        message = f"{self._endpoint.name}: {code.name}: {_first_line(details)}"
        if code == codes.ConnectionFailure:
            # Once something was understood, the attempt counts: a file may break a container again and again.
            return EndpointDown(message, sent=bool(self.segments))
        if code in {codes.AuthenticationFailure, codes.Forbidden}:
            return EndpointDown(message)
        if code == codes.BadRequest:
            return WorkItemError(message)
        return FailedRecognitionError(message)


def _query(wishes: Wishes) -> dict[str, str]:
    """What the SDK has no method for travels in the query, as the public kit sends it."""
    query = {
        "speechcontext-PhraseOutput.Format": "Detailed",
        "punctuation": "implicit",
        "speechcontext-PhraseOutput.Detailed.Options": '["Sentiment","WordTimings"]'
        if wishes.sentiment
        else '["WordTimings"]',
    }
    if wishes.sentiment:
        query["speechcontext-phraseDetection.sentimentanalysis.enabled"] = "true"
        query["speechcontext-phraseDetection.sentimentAnalysis.modelversion"] = "latest"
    if wishes.diarization is not Diarization.NONE:
        query["speechcontext-phraseDetection.speakerDiarization.mode"] = wishes.diarization.value
    return query


def _sdk() -> Any:
    try:
        from azure.cognitiveservices import speech  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigurationError("the Speech SDK is not installed: pip install 'azbatchwrap[speech]'") from error
    return speech


def _puller(speech: Any, samples: Samples) -> Any:
    """The SDK's callback object around our reader; its base class is only known once the SDK is imported."""

    class Puller(speech.audio.PullAudioInputStreamCallback):  # type: ignore[misc]
        def read(self, buffer: memoryview) -> int:
            data = samples.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)

        def close(self) -> None: ...

    return Puller()


class _logging_to:  # noqa: N801  reads as a phrase in ``with``
    """The SDK has one log per process, which is one file at a time here."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def __enter__(self) -> None:
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            _file_logger().start(str(self._file), append=True)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            _file_logger().stop()


def _file_logger() -> Any:
    _sdk()
    from azure.cognitiveservices.speech.diagnostics.logging import FileLogger  # type: ignore[import-untyped]

    return FileLogger


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0][:300]
