"""The stand-in as a server on loopback, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from aiohttp import WSCloseCode, web

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.local.speech.container import Container, Options
from azbatchwrap.local.speech.conversation import Conversation, open_socket
from azbatchwrap.local.speech.engines import new_engine
from azbatchwrap.local.speech.rest import Rest, broken

#: What is being answered when the stand-in is told to stop has this long to end (seconds).
GRACE = 5.0
#: The paths of the modes; ConversationTranscriber uses the universal one.
V1 = "/speech/recognition/{mode:interactive|conversation|dictation}/cognitiveservices/v1"
UNIVERSAL = "/speech/universal/v2"
FAST = "/speechtotext/transcriptions:transcribe"
#: Sound files are large: the service takes up to 300 MB in a fast transcription (bytes).
LARGEST_BODY = 320 * 1024 * 1024

_sockets: web.AppKey[set[web.WebSocketResponse]] = web.AppKey("sockets", set)
_container: web.AppKey[Container] = web.AppKey("container", Container)


def build_app(container: Container) -> web.Application:
    app = web.Application(client_max_size=LARGEST_BODY)
    app[_container] = container
    app[_sockets] = set()
    rest = Rest(container)
    app.add_routes(
        [
            web.get("/status", _status),
            web.get("/ready", _ready),
            web.get("/requests", _requests),
            web.get(V1, _converse),
            web.get(UNIVERSAL, _converse),
            web.post(V1, rest.short_audio),
            web.post(FAST, rest.fast_transcription),
        ]
    )
    app.on_shutdown.append(_close_sockets)
    return app


async def serve(options: Options, tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``tell`` gets the URL once it answers. Raises ConfigurationError."""
    container = Container(new_engine(options.engine, options.sentence), options)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    runner = web.AppRunner(build_app(container), access_log=None, shutdown_timeout=GRACE)
    try:
        tell(await _listen(runner, options))
        await stopping.wait()
    finally:
        await runner.cleanup()
        container.engine.close()


async def _listen(runner: web.AppRunner, options: Options) -> str:
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port).start()
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {options.host}:{options.port}: {error.strerror}") from error
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


async def _status(_: web.Request) -> web.Response:
    """As Azure's containers say that their key is valid; clients take this for "it can be used"."""
    return web.json_response(
        {
            "service": "speechtotext",
            "apiStatus": "Valid",
            "apiStatusMessage": "Valid: the stand-in of azbatchwrap needs no key.",
        }
    )


async def _ready(_: web.Request) -> web.Response:
    return web.json_response({"service": "speechtotext", "ready": "ready"})


async def _requests(request: web.Request) -> web.Response:
    """What clients asked for, oldest first: not a path of Azure's."""
    return web.json_response([record.facts() for record in request.app[_container].records])


async def _converse(request: web.Request) -> web.StreamResponse:
    socket = open_socket()
    if not socket.can_prepare(request).ok:
        return web.json_response({"code": "BadRequest", "message": "this path takes WebSockets (or POST)"}, status=400)
    container = request.app[_container]
    if container.strikes():
        with container.working("websocket", request.path) as record:
            return broken(record)
    await socket.prepare(request)
    request.app[_sockets].add(socket)
    try:
        await Conversation(container, socket, request).run()
    finally:
        request.app[_sockets].discard(socket)
    return socket


async def _close_sockets(app: web.Application) -> None:
    """Let turns end, then say good-bye: an SDK that idles would stay for ever."""
    await app[_container].idle(GRACE)
    for socket in app[_sockets].copy():
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the stand-in ends")
