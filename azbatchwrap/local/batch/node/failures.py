"""The ways a task can fail on a node, each with the service's code for it."""

from __future__ import annotations

import errno
import os

from azbatchwrap.local.batch.node.records import SERVER_ERROR, USER_ERROR, Failure

_FULL = {errno.ENOSPC, errno.EDQUOT}


def without_query(url: str) -> str:
    """``url`` without what may be its signature."""
    return url.partition("?")[0]


def _shown(path: str) -> str:
    """``path`` as text that JSON can hold: names of files need not be."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def disk(problem: OSError, code: str, what: str) -> Failure:
    """``problem`` met while writing: DiskFull when that is the reason, else ``code``."""
    reason = os.strerror(problem.errno) if problem.errno else str(problem)
    details = (("FilePath", _shown(what)), ("Message", reason))
    if problem.errno in _FULL:
        return Failure(SERVER_ERROR, "DiskFull", "There is no space left on the node's disk", details)
    return Failure(SERVER_ERROR, code, "A file or folder of the task could not be written on the node", details)


def resource_path(path: str, reason: str) -> Failure:
    details = (("FilePath", path), ("Message", reason))
    return Failure(USER_ERROR, "ResourceFileCreateFailed", "A resource file has no valid place on the node", details)


def blob(code: str, url: str, path: str, reason: str) -> Failure:
    """A resource file did not arrive."""
    messages = {
        "BlobNotFound": "A blob that a resource file names does not exist",
        "BlobAccessDenied": "Access to a blob that a resource file names was denied",
        "BlobDownloadTimedOut": "The download of a resource file took too long",
        "BlobDownloadMiscError": "A resource file could not be downloaded",
    }
    category = USER_ERROR if code in {"BlobNotFound", "BlobAccessDenied"} else SERVER_ERROR
    details = (("BlobSource", without_query(url)), ("FilePath", path), ("Message", reason))
    return Failure(category, code, messages[code], details)


def upload(code: str, url: str, path: str, reason: str) -> Failure:
    """An output file did not leave."""
    messages = {
        "FileUploadContainerNotFound": "The container of an output file does not exist",
        "FileUploadAccessDenied": "Access to the container of an output file was denied",
        "FileUploadMiscError": "An output file could not be uploaded",
    }
    details = (("FilePath", _shown(path)), ("Destination", without_query(url)), ("Message", reason))
    return Failure(USER_ERROR, code, messages[code], details)


def program_not_found(program: str) -> Failure:
    return Failure(
        USER_ERROR,
        "CommandProgramNotFound",
        "The program of the command line was not found on the node",
        (("Message", f"{program} is neither on the task's PATH nor a file seen from its working folder"),),
    )


def launch_failed(reason: str) -> Failure:
    return Failure(USER_ERROR, "CommandLaunchFailed", "The command line could not be started", (("Message", reason),))


def exit_code(code: int) -> Failure:
    return Failure(
        USER_ERROR,
        "FailureExitCode",
        "The task's process ended with an exit code that means failure",
        (("Message", f"the exit code was {code}"),),
    )


def ended(reason: str) -> Failure:
    return Failure(USER_ERROR, "TaskEnded", "The task was ended before it was done", (("Message", reason),))
