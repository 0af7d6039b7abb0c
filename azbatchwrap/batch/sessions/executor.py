"""A session as the standard library's executor: what takes an `Executor` takes this."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

from .future import Future
from .session import Session


class SessionExecutor(concurrent.futures.Executor):
    """Runs calls as tasks of Azure Batch. ``max_workers`` limits how many are on the service at once.

    Arguments and results may be any Python values (they are pickled where JSON does not hold them, so nodes need the
    same Python version), unless ``pickle=False``. ``session_arguments`` are those of `Session`.
    """

    def __init__(self, max_workers: int | None = None, *, pickle: bool = True, **session_arguments: Any) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self.session = Session(at_most=max_workers, pickle=pickle, **session_arguments)
        self._futures: set[Future] = set()
        self._is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """A future for ``fn(*args, **kwargs)``. Raises RuntimeError after `shutdown`, ConfigurationError as `Session`."""
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = self.session.call(fn, args, kwargs)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with ``cancel_futures`` those that do not run yet are cancelled. See `Executor.shutdown`."""
        self._is_shut_down = True
        if cancel_futures:
            for future in list(self._futures):
                if not future.running():
                    future.cancel()
        if wait:
            self.session.close()
        else:
            # Not a daemon: as with the standard library's, the interpreter ends when the work has.
            threading.Thread(target=self.session.close, name="azbatchwrap-shutdown").start()
