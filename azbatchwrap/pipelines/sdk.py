"""The one door to azure-ai-ml: it takes a second to import, so nothing but the writing of a component comes here."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azbatchwrap.errors import ConfigurationError, Unreachable
from azbatchwrap.pipelines.arm import refusal
from azbatchwrap.pipelines.context import Context

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


_MISSING = "azure-ai-ml writes the scoring step and the pipeline, and is not installed: pip install 'azbatchwrap[aml]'"
_imported = threading.Event()
_imported.set()


def check_installed() -> None:
    """Before anything is made that would wait for the SDK. Raises ConfigurationError."""
    try:
        found = importlib.util.find_spec("azure.ai.ml")
    except ModuleNotFoundError:  # not even azure.ai
        found = None
    if found is None:
        raise ConfigurationError(_MISSING)


@contextlib.contextmanager
def importing(*, wanted: bool) -> Iterator[None]:
    """Import the SDK meanwhile, if it is ``wanted``: a second that passes while the service works.

    Nobody else may come to the import before this one is through: two threads in it would see half of a module.
    """
    if not wanted:
        yield
        return
    thread = threading.Thread(target=_import, name="azure-ai-ml")
    _imported.clear()
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _import() -> None:
    # Whoever needs it later, and has not got it, says so.
    try:
        with contextlib.suppress(ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import azure.ai.ml  # noqa: F401
    finally:
        _imported.set()


def write_component(context: Context, definition: Mapping[str, Any]) -> None:
    """Create the version of a component that ``definition`` (in the SDK's YAML schema) describes."""
    import yaml
    from azure.core.exceptions import AzureError, HttpResponseError

    what = f"component {definition['name']}:{definition['version']}"
    _imported.wait()
    with _quiet(), tempfile.TemporaryDirectory(prefix="batchcreate-") as folder:
        path = Path(folder) / "component.yml"
        path.write_text(yaml.safe_dump(dict(definition), sort_keys=False), encoding="utf-8")
        client = _client(context)
        from azure.ai.ml import load_component

        try:
            client.components.create_or_update(load_component(source=path))
        except HttpResponseError as error:
            text = error.response.text() if error.response is not None else str(error)
            raise refusal(error.status_code or 0, text, what) from error
        except AzureError as error:
            raise Unreachable(f"{what}: {error}") from error


def _client(context: Context) -> MLClient:
    try:
        from azure.ai.ml import MLClient
    except ImportError as error:
        raise ConfigurationError(f"{_MISSING} ({error})") from error
    cloud, settings = context.arm.cloud, context.settings
    options: dict[str, Any] = {}
    if not cloud.is_public:
        options = {
            # The SDK keeps the first cloud of a name for as long as the process lives, whatever its addresses.
            "cloud": f"{cloud.name} at {cloud.manager}",
            "cloud_metadata": {
                "azure_portal": cloud.portal,
                "resource_manager": f"{cloud.manager}/",
                "active_directory": cloud.login,
                "aml_resource_id": cloud.scoring_audience,
                "storage_endpoint": cloud.storage_suffix,
                "registry_discovery_endpoint": f"{cloud.manager}/",
            },
        }
    return MLClient(context.arm.credential, settings.subid, settings.resource_group, settings.workspace, **options)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The SDK announces experimental classes on standard error, and leaves the cloud's name in the environment."""
    logger = logging.getLogger("azure.ai.ml")
    level, cloud = logger.level, os.environ.get(_CLOUD_VARIABLE)
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if cloud is None:
            os.environ.pop(_CLOUD_VARIABLE, None)
        else:
            os.environ[_CLOUD_VARIABLE] = cloud


_CLOUD_VARIABLE = "AZUREML_CURRENT_CLOUD"
