"""`run`: a batch type over a folder (ONESHOT, DAEMON) or behind a server (REST), from its first item to its exit code.

Signals: SIGTERM gives out nothing more, leaves items in flight a few seconds and ends; SIGHUP does what was submitted
and ends; SIGINT breaks off; SIGUSR1 looks at the input folder and the endpoint file now. What a run leaves undone is
done when it is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azbatchwrap.endpoints.ending import end_tasks
from azbatchwrap.endpoints.pool import EndpointPool
from azbatchwrap.endpoints.source import EndpointFile
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.progress import NullProgress, Progress

from .batch import Batch
from .dispatch import Dispatcher
from .inbox import Inbox, list_folder
from .journal import RunPaths
from .lanes import show, totals
from .options import Mode, RunOptions
from .runlog import run_log
from .types import BatchConfig, BatchRequest, Counts

log = logging.getLogger(__name__)

#: Descriptors that are not connections: files, pipes, the loop's own.
OTHER_DESCRIPTORS = 64
INTERRUPTED = 130
#: Objects made before the collector looks for cycles: an item makes dozens, and Python's 700 would be a tenth of its cost.
COLLECT_AFTER = 10_000


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended. ``undone``: items that were accepted and have no result yet; ``faults``: what else went wrong.

    ``complete``: every batch was done to its end. A run that is ended while it lists its items does not know how many
    are undone.
    """

    mode: Mode
    counts: Counts
    faults: tuple[str, ...] = ()
    interrupted: bool = False
    complete: bool = True

    @property
    def undone(self) -> int:
        return self.counts.total - self.counts.done

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some failed (or, in ONESHOT, were left undone), 130 interrupted."""
        if self.interrupted:
            return INTERRUPTED
        left = self.mode is Mode.ONESHOT and not self.complete
        return 1 if self.counts.failed or self.faults or left else 0


def run(
    batch_type: type[BatchRequest],
    config: BatchConfig,
    options: RunOptions,
    *,
    progress: Progress | None = None,
    console: bool = False,
    reuse: bool = True,
) -> RunReport:
    """Do the work and return when it is done, or when a signal ended it.

    ``console``: log to standard error, too. ``reuse``: items that passed in an earlier run on the same output folder
    are taken as done (a batch type that knows better, for example from its output files, says False).
    Raises ConfigurationError before anything was begun.
    """
    with run_log(
        config.log_folder, file_level=options.file_level, console_level=options.console_level, console=console
    ):
        running = _Run(batch_type, config, options, progress or NullProgress(), reuse=reuse)
        with _collecting_less():
            return _run_loop(running.go())


@contextlib.contextmanager
def _collecting_less() -> Iterator[None]:
    """Have the garbage collector look less often, and not at all at what was there before."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _run_loop(main: Coroutine[Any, Any, RunReport]) -> RunReport:
    try:
        import uvloop
    except ImportError:  # not made for this platform
        return asyncio.run(main)
    return uvloop.run(main)


@dataclass(slots=True)
class _Run:
    batch_type: type[BatchRequest]
    config: BatchConfig
    options: RunOptions
    progress: Progress
    reuse: bool
    source: EndpointFile | None = None
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    finishing: asyncio.Event = field(default_factory=asyncio.Event)
    interrupted: bool = False
    on_scan: list[Callable[[], object]] = field(default_factory=list)

    async def go(self) -> RunReport:
        specs = self._specs()
        limit = _descriptors_for(sum(spec.concurrency for spec in specs))
        checker = self.batch_type.get_endpoint_status_checker(self.config)
        pool = EndpointPool(specs, checker=checker, policy=self.options.health)
        with self._signals():
            async with pool, Dispatcher(pool, max_in_flight=limit) as dispatcher, _together() as beside:
                if self.source is not None:
                    source = self.source
                    self.on_scan.append(lambda: source.apply(pool))
                    beside(source.follow(pool))
                if self.options.mode is Mode.REST:
                    return await self._serve(dispatcher)
                return await self._work(dispatcher)

    def _specs(self) -> tuple[Any, ...]:
        if not isinstance(self.options.endpoints, Path):
            return tuple(self.options.endpoints)
        self.source = EndpointFile(self.options.endpoints, parse=self.options.parse, strict=self.options.strict)
        return self.source.load()

    # --- ONESHOT and DAEMON ---

    async def _work(self, dispatcher: Dispatcher) -> RunReport:
        daemon = self.options.mode is Mode.DAEMON
        first: Sequence[Path] = [] if daemon else await asyncio.to_thread(self._oneshot_files)
        request = self.batch_type.from_config(first, self.config)
        batch = await dispatcher.submit(request, self.config.output_folder, open_end=daemon, reuse=self.reuse)
        async with _together() as beside:
            beside(show(self.progress, dispatcher.pool, lambda: [batch]))
            if daemon:
                beside(self._take_in(batch))
            await self._until_done(dispatcher, batch)
        await dispatcher.end(batch)
        return self._report([batch])

    def _oneshot_files(self) -> Sequence[Path]:
        if self.options.files is not None:
            return self.options.files  # a million of them need not be in memory at once
        folder = self._input_folder()
        try:
            return list_folder(folder, self._is_valid(), recursive=self.options.recursive)
        except OSError as error:
            raise ConfigurationError(f"input folder {folder}: {error.strerror}") from error

    def _input_folder(self) -> Path:
        if self.config.input_folder is None:
            raise ConfigurationError("an input folder is needed")
        if not self.config.input_folder.is_dir():
            raise ConfigurationError(f"input folder {self.config.input_folder}: is no folder")
        return self.config.input_folder

    def _is_valid(self) -> Callable[[Path], bool]:
        """Takes what the batch type takes, but never what this run writes."""
        paths = RunPaths(self.config.output_folder)
        files = {os.fspath(paths.results), os.fspath(paths.summary)}
        written = {self.config.output_folder, self.config.log_folder} - {None, self.config.input_folder}
        folders = tuple(f"{folder}{os.sep}" for folder in written)
        takes = self.batch_type.is_valid_input_file

        def is_valid(path: Path) -> bool:
            text = os.fspath(path)
            return text not in files and not text.startswith(folders) and takes(path)

        return is_valid

    async def _take_in(self, batch: Batch) -> None:
        """Feed what arrives in the input folder."""
        options = self.options
        inbox = Inbox(
            self._input_folder(), self._is_valid(), recursive=options.recursive, poll=options.poll,
            notified=not options.poll_only,
        )  # fmt: skip
        self.on_scan.append(inbox.scan_soon)
        async for arrival in inbox.arrivals():
            log.info("%d files arrived", len(arrival.files))
            batch.feed(self.batch_type.from_config(arrival.files, self.config), again=arrival.again)

    async def _until_done(self, dispatcher: Dispatcher, batch: Batch) -> None:
        done = asyncio.ensure_future(batch.done.wait())
        finishing = asyncio.ensure_future(self.finishing.wait())
        ending = asyncio.ensure_future(self.ending.wait())
        try:
            await asyncio.wait({done, finishing, ending}, return_when=asyncio.FIRST_COMPLETED)
            if finishing.done():
                batch.no_more()
                await asyncio.wait({done, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                await self._drain(dispatcher)
        finally:
            for waiter in (done, finishing, ending):
                waiter.cancel()

    async def _drain(self, dispatcher: Dispatcher) -> None:
        if not self.interrupted:
            log.info("ending: %d items are in flight", dispatcher.in_flight)
            await dispatcher.drain(self.options.drain)

    # --- REST ---

    async def _serve(self, dispatcher: Dispatcher) -> RunReport:
        from .server import BatchServer

        server = BatchServer(dispatcher, self.batch_type, self.config, self.options, reload=self._scan)
        async with _together() as beside:
            beside(show(self.progress, dispatcher.pool, server.batches))
            await server.start()
            ending = asyncio.ensure_future(self.ending.wait())
            finishing = asyncio.ensure_future(self.finishing.wait())
            await asyncio.wait({ending, finishing}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                server.accept_no_more()
                done = asyncio.ensure_future(server.all_done())
                await asyncio.wait({ending, done}, return_when=asyncio.FIRST_COMPLETED)
                done.cancel()
            finishing.cancel()
            ending.cancel()
            if self.ending.is_set():
                server.accept_no_more()
                await self._drain(dispatcher)
            batches = list(server.batches())
            await server.stop()
        return self._report(batches)

    def _report(self, batches: list[Batch]) -> RunReport:
        faults = tuple(batch.fault for batch in batches if batch.fault)
        complete = all(batch.done.is_set() for batch in batches)
        return RunReport(self.options.mode, totals(batches), faults, self.interrupted, complete)

    # --- signals ---

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], object]] = {
            signal.SIGTERM: self.ending.set,
            signal.SIGINT: self._interrupt,
            signal.SIGHUP: self.finishing.set,
            signal.SIGUSR1: self._scan,
        }
        try:
            for number, handler in handlers.items():
                loop.add_signal_handler(number, handler)
        except (ValueError, RuntimeError):
            handlers = {}  # not in the main thread: signals are somebody else's business
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        self.interrupted = True
        self.ending.set()

    def _scan(self) -> None:
        for look in self.on_scan:
            look()


@contextlib.asynccontextmanager
async def _together() -> Any:
    """Coroutines that run beside the block; one that fails ends the block with its error."""
    owner = asyncio.current_task()
    tasks: set[asyncio.Task[Any]] = set()
    failures: list[BaseException] = []

    def ended(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            failures.append(task.exception() or RuntimeError())
            if owner is not None:
                owner.cancel()

    def start(work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(ended)

    try:
        yield start
    except asyncio.CancelledError:
        if failures:
            raise failures[0] from None
        raise
    finally:
        for task in tasks:
            task.remove_done_callback(ended)
        await end_tasks(tasks)


def _descriptors_for(slots: int) -> int | None:
    """How many items may be in flight: a connection per slot needs a descriptor. None: as many as there are slots.

    Takes what the system allows, and says when that is too little.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = slots + OTHER_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return None
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft >= needed:
        return None
    fewer = max(1, soft - OTHER_DESCRIPTORS)
    log.warning("only %d files may be open (ulimit -n): at most %d items are in flight, not %d", soft, fewer, slots)
    return fewer
