"""The az CLI signed in: ``az batch account|application|location`` and, after ``account login``, the data plane by token."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from az_batch import Az, command_of
from recording import Recorder, check, read_settings

GROUP = "azbatchwrap"


class Program:
    """Command lines in an order that leaves nothing behind; each is recorded by its own words."""

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.az = Az()
        self.record = Recorder("2024-02-01")
        self.account = ("--resource-group", GROUP, "--name", settings["account"])
        self.application = (*self.account, "--application-name", settings["prefix"])

    def run(self) -> None:
        self.sign_in()
        self.accounts()
        self.networks()
        self.locations()
        self.applications()
        self.data_plane()

    def does(self, *words: str) -> Any:
        """Run a command of ``az batch``."""
        with self.record(f"az batch {command_of(words)}"):
            return self.az("batch", *words)

    def refuses(self, reason: str, *words: str) -> None:
        """The command must fail for this reason."""
        with self.record(f"az batch {command_of(words)}", f"refused: {reason}"):
            try:
                self.az("batch", *words)
            except ValueError as error:
                check(reason in str(error), error)
            else:
                check(False, "the command was carried out")

    def sign_in(self) -> None:
        settings = self.settings
        secret = ("--username", settings["client_id"], "--password", settings["client_secret"])
        with self.record("az cloud set, az login"):
            self.az("cloud", "set", "--name", "AzureLocal")
            self.az("login", "--service-principal", *secret, "--tenant", settings["tenant_id"])

    def accounts(self) -> None:
        check([each["name"] for each in self.does("account", "list")] == [self.settings["account"]])
        shown = self.does("account", "show", *self.account)
        check(shown["provisioningState"] == "Succeeded" and shown["accountEndpoint"], shown)
        check(self.does("account", "keys", "list", *self.account)["primary"] == self.settings["key"])
        self.does("account", "set", *self.account, "--tags", "a=b")
        check(self.does("account", "show", *self.account)["tags"] == {"a": "b"})
        self.does("account", "create", *self.account, "--location", "local")
        another = ("--resource-group", GROUP, "--name", "another", "--location", "local")
        self.refuses("SubscriptionQuotaExceeded", "account", "create", *another)
        self.refuses("cannot be deleted", "account", "delete", *self.account, "--yes")
        renewed = self.does("account", "keys", "renew", *self.account, "--key-name", "secondary")
        check(renewed["primary"] == self.settings["key"] != renewed["secondary"], "the primary key stays")
        self.does("account", "autostorage-keys", "sync", *self.account)
        self.does("account", "identity", "show", *self.account)
        check(self.does("account", "outbound-endpoints", *self.account))

    def networks(self) -> None:
        self.does(
            "account", "network-profile", "set", *self.account, "--profile", "BatchAccount", "--default-action", "Allow"
        )
        rule = ("--profile", "BatchAccount", "--ip-address", "192.0.2.0/24")
        self.does("account", "network-profile", "network-rule", "add", *self.account, *rule)
        self.does("account", "network-profile", "show", *self.account)
        self.does("account", "network-profile", "network-rule", "list", *self.account)
        self.does("account", "network-profile", "network-rule", "delete", *self.account, *rule, "--yes")
        check(self.does("private-endpoint-connection", "list", *_as_account(self.account)) == [])
        check(self.does("private-link-resource", "list", *_as_account(self.account)) == [])

    def locations(self) -> None:
        check(self.does("location", "quotas", "show", "--location", "local")["accountQuota"] == 1)
        sizes = self.does("location", "list-skus", "--location", "local")
        check("Standard_D2s_v3" in [each["name"] for each in sizes], sizes)

    def applications(self) -> None:
        name = self.settings["prefix"]
        check(self.does("application", "create", *self.application)["name"] == name)
        check(name in [each["name"] for each in self.does("application", "list", *self.account)])
        file, version = self.folder / "package.zip", ("--version-name", "1.0")
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("hello.txt", "hello")
        package = (*self.application, *version)
        made = self.does("application", "package", "create", *package, "--package-file", str(file))
        check(made["state"] == "Active", made)
        check(len(self.does("application", "package", "list", *self.application)) == 1)
        check(self.does("application", "package", "show", *package)["format"] == "zip")
        self.does("application", "package", "activate", *package, "--format", "zip")
        self.does("application", "set", *self.application, "--display-name", "A tool", "--default-version", "1.0")
        check(self.does("application", "show", *self.application)["defaultVersion"] == "1.0")
        self.refuses("default version", "application", "package", "delete", *package, "--yes")

    def data_plane(self) -> None:
        """No key in sight: the CLI asks with a token, over TLS."""
        self.does("account", "login", "--resource-group", GROUP, "--name", self.settings["account"])
        name = self.settings["prefix"]
        check(name in [each["id"] for each in self.does("application", "summary", "list")])
        shown = self.does("application", "summary", "show", "--application-id", name)
        check(shown["versions"] == ["1.0"] and shown["displayName"] == "A tool", shown)
        self.does("pool", "list")


def _as_account(account: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("--account-name" if word == "--name" else word for word in account)


def main() -> None:
    settings = read_settings()
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {
            "AZURE_CONFIG_DIR": str(Path(name, "config")),
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            "ARM_CLOUD_METADATA_URL": settings["metadata_url"],
            "REQUESTS_CA_BUNDLE": settings["ca_bundle"],
            "SSL_CERT_FILE": settings["ca_bundle"],
        }
        for variable in ("AZURE_BATCH_ACCOUNT", "AZURE_BATCH_ACCESS_KEY", "AZURE_BATCH_ENDPOINT"):
            os.environ.pop(variable, None)
        Program(settings, Path(name)).run()


if __name__ == "__main__":
    main()
