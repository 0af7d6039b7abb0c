"""The WebSocket side: one connection of a Speech SDK, turn by turn."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from azbatchwrap.local.speech.answers import Wishes, phrase, read_wishes
from azbatchwrap.local.speech.container import Container, Record, State
from azbatchwrap.local.speech.sound import (
    PLAIN,
    NotSound,
    Segmenter,
    Utterance,
    WaveFormat,
    channel,
    read_header,
)
from azbatchwrap.local.speech.usp import (
    SUBPROTOCOL,
    Message,
    MessageError,
    format_text,
    parse_binary,
    parse_text,
    ticks,
)

#: A header longer than this (bytes) is none.
LONGEST_HEADER = 4096


@dataclass(slots=True)
class Turn:
    """One request of a connection: sound in, phrases out."""

    request_id: str
    wishes: Wishes
    record: Record
    #: After its first phrase, a turn of the interactive mode (``recognize_once``) is over.
    once: bool
    form: WaveFormat | None = None
    head: bytearray = field(default_factory=bytearray)
    segmenter: Segmenter | None = None
    spoken: int = 0
    over: bool = False


class Conversation:
    """Reads a client's messages and answers each turn. Empty turns after the first are the SDK's way to idle."""

    def __init__(self, container: Container, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._container = container
        self._socket = socket
        self._query: Mapping[str, str] = dict(request.query)
        self._path = request.path
        self._once = "/interactive/" in request.path
        self._context: Mapping[str, Any] = {}
        self._turn: Turn | None = None
        self._finished: set[str] = set()
        self._working = contextlib.ExitStack()

    async def run(self) -> None:
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._take(parse_text(message.data))
                elif message.type is WSMsgType.BINARY:
                    await self._take(parse_binary(message.data))
        except (MessageError, NotSound) as error:
            self._close_turn("refused")
            await self._socket.close(code=WSCloseCode.INVALID_TEXT, message=str(error).encode()[:120])
        except ConnectionError:
            pass  # the client went away in the middle of an answer
        finally:
            self._close_turn("left")

    async def _take(self, message: Message) -> None:
        if message.path == "speech.context":
            self._context = message.json()
        elif message.path == "audio" and message.request_id not in self._finished:
            await self._listen(message)

    async def _listen(self, message: Message) -> None:
        turn = self._turn
        if turn is None or turn.request_id != message.request_id:
            if not message.body and self._finished:
                return
            turn = await self._begin(message.request_id)
        if message.body:
            await self._hear(turn, message.body)
        else:
            await self._end(turn)

    async def _begin(self, request_id: str) -> Turn:
        self._close_turn("left")
        record = self._working.enter_context(self._container.working("websocket", self._path))
        record.wishes = read_wishes(self._query, self._context)
        self._turn = Turn(request_id, record.wishes, record, self._once)
        await self._say("turn.start", {"context": {"serviceTag": uuid.uuid4().hex}})
        return self._turn

    async def _hear(self, turn: Turn, data: bytes) -> None:
        samples = self._samples(turn, data)
        if samples and turn.segmenter is not None and not turn.over:
            for utterance in turn.segmenter.feed(samples):
                await self._phrase(turn, utterance)

    def _samples(self, turn: Turn, data: bytes) -> bytes:
        """Mono samples of ``data``, less the header of the stream, where there is one."""
        if turn.form is None:
            turn.head += data
            begun = bytes(turn.head)
            found = read_header(begun) if begun.startswith(b"RIFF"[: len(begun)]) else (PLAIN, 0)
            if found is None:
                if len(begun) > LONGEST_HEADER:
                    raise NotSound(f"there are no samples in the first {LONGEST_HEADER} bytes of the WAVE stream")
                return b""
            turn.form, start = found
            turn.segmenter = Segmenter(turn.form.rate)
            data = begun[start:]
            turn.head.clear()
        turn.head += data
        whole = len(turn.head) - len(turn.head) % (2 * turn.form.channels)
        samples = bytes(turn.head[:whole])
        del turn.head[:whole]
        turn.record.seconds += len(samples) / turn.form.bytes_per_second
        return channel(samples, turn.form, 0)

    async def _phrase(self, turn: Turn, utterance: Utterance) -> None:
        if turn.over:
            return
        if not turn.spoken:
            await self._container.dawdle()
            await self._say("speech.startDetected", {"Offset": ticks(utterance.offset)})
        readings = await self._container.engine.understand(utterance)
        made = phrase(utterance, readings, turn.wishes, number=turn.spoken)
        if readings:
            hypothesis = {"Id": made["Id"], "Text": made["DisplayText"]}
            await self._say("speech.hypothesis", {**hypothesis, "Offset": made["Offset"], "Duration": made["Duration"]})
        turn.spoken += 1
        if turn.once:
            await self._finish(turn, made)
        else:
            await self._say("speech.phrase", made)

    async def _end(self, turn: Turn) -> None:
        segmenter = turn.segmenter
        for utterance in segmenter.finish() if segmenter is not None else ():
            await self._phrase(turn, utterance)
        if turn.over:
            return
        if not turn.spoken:
            await self._container.dawdle()
        heard = ticks(segmenter.heard) if segmenter is not None else 0
        status = "InitialSilenceTimeout" if turn.once else "EndOfDictation"
        await self._finish(turn, {"Id": uuid.uuid4().hex, "RecognitionStatus": status, "Offset": heard, "Duration": 0})

    async def _finish(self, turn: Turn, last: Mapping[str, Any]) -> None:
        turn.over = True
        if self._finished and not turn.spoken:
            # After its last turn an SDK sends the silence behind the last phrase again: no request of the user's.
            self._container.records.remove(turn.record)
        await self._say("speech.endDetected", {"Offset": last["Offset"] + last["Duration"]})
        await self._say("speech.phrase", last)
        await self._say("turn.end", {})
        self._finished.add(turn.request_id)
        self._close_turn("answered")

    def _close_turn(self, state: State) -> None:
        if self._turn is not None and self._turn.record.state == "open":
            self._turn.record.state = state
        self._turn = None
        self._working.close()

    async def _say(self, path: str, body: Mapping[str, Any]) -> None:
        assert self._turn is not None
        await self._socket.send_str(format_text(path, self._turn.request_id, body))


def open_socket() -> web.WebSocketResponse:
    return web.WebSocketResponse(protocols=(SUBPROTOCOL,), max_msg_size=0, compress=False)
