"""azure-mgmt-batch: what the management side offers; and azure-batch with a token in place of a key."""

from __future__ import annotations

import datetime as dt
import io
import os
import zipfile
from typing import Any

from azure.batch import BatchClient
from azure.batch import models as batch_models
from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential
from azure.mgmt.batch import BatchManagementClient, models
from azure.storage.blob import BlobClient
from recording import AGENT, JAMMY, Recorder, check, read_settings, until

GROUP = "azbatchwrap"


def package(content: str) -> bytes:
    """A zip file with a tool that says ``content``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        tool = zipfile.ZipInfo("bin/tool")
        tool.external_attr = 0o755 << 16
        archive.writestr(tool, f"#!/bin/sh\necho {content}\n")
    return buffer.getvalue()


class Program:
    """An application with two packages, a pool, and a token."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.credential = ClientSecretCredential(
            settings["tenant_id"],
            settings["client_id"],
            settings["client_secret"],
            authority=settings["authority"],
            disable_instance_discovery=True,
        )
        self.client = BatchManagementClient(
            self.credential,
            settings["subscription_id"],
            base_url=settings["authority"],
            credential_scopes=[f"{settings['authority']}/.default"],
            retry_total=0,
        )
        self.account = settings["account"]
        self.record = Recorder(self.client._config.api_version)
        self.name = settings["prefix"]

    def run(self) -> None:
        self.accounts()
        self.locations()
        self.applications()
        self.pools()
        self.token()
        self.end()

    def accounts(self) -> None:
        client, record = self.client.batch_account, self.record
        with record("batch_account.get"):
            found = client.get(GROUP, self.account)
            check(found.provisioning_state == "Succeeded" and found.account_endpoint, found)
            check(found.auto_storage.storage_account_id, found)
            self.endpoint = f"https://{found.account_endpoint}"
        with record("batch_account.list"):
            check([each.name for each in client.list()] == [self.account])
        with record("batch_account.list_by_resource_group"):
            check([each.name for each in client.list_by_resource_group(GROUP)] == [self.account])
        with record("batch_account.get_keys"):
            before = client.get_keys(GROUP, self.account)
            check(before.primary and before.secondary)
        with record("batch_account.regenerate_key", "the other one stays"):
            wanted = models.BatchAccountRegenerateKeyParameters(key_name=models.AccountKeyType.SECONDARY)
            after = client.regenerate_key(GROUP, self.account, wanted)
            check(after.primary == before.primary and after.secondary != before.secondary)
        with record("batch_account.update"):
            client.update(GROUP, self.account, models.BatchAccountUpdateParameters(tags={"a": "b"}))
            linked = found.auto_storage.storage_account_id
            storage = models.AutoStorageBaseProperties(storage_account_id=linked, authentication_mode="StorageKeys")
            client.update(GROUP, self.account, models.BatchAccountUpdateParameters(auto_storage=storage))
            now = client.get(GROUP, self.account)
            check(now.tags == {"a": "b"} and now.auto_storage.storage_account_id == linked, now)
        with record("batch_account.create", "the one that is there; another is refused"):
            parameters = models.BatchAccountCreateParameters(location="local")
            check(client.begin_create(GROUP, self.account, parameters).result().name == self.account)
            try:
                client.begin_create(GROUP, "another", parameters).result()
            except HttpResponseError as error:
                check(error.error.code == "SubscriptionQuotaExceeded", error)
            else:
                check(False, "a second account was made")
        with record("batch_account.synchronize_auto_storage_keys"):
            synchronized = client.get(GROUP, self.account).auto_storage.last_key_sync
            client.synchronize_auto_storage_keys(GROUP, self.account)
            check(client.get(GROUP, self.account).auto_storage.last_key_sync >= synchronized)
        with record("batch_account.list_outbound_network_dependencies_endpoints"):
            found = list(client.list_outbound_network_dependencies_endpoints(GROUP, self.account))
            check([each.category for each in found] == ["Azure Batch", "Azure Storage"])

    def locations(self) -> None:
        client, record = self.client.location, self.record
        with record("location.get_quotas"):
            check(client.get_quotas("local").account_quota == 1)
        with record("location.list_supported_virtual_machine_skus"):
            names = [each.name for each in client.list_supported_virtual_machine_skus("local")]
            check("Standard_D2s_v3" in names, names)
            only = client.list_supported_virtual_machine_skus("local", filter="familyName eq 'standardAv2Family'")
            check(len(list(only)) == 3)
        with record("location.check_name_availability"):
            asked = models.CheckNameAvailabilityParameters(name=self.account, type="Microsoft.Batch/batchAccounts")
            check(client.check_name_availability("local", asked).name_available is False)

    def applications(self) -> None:
        record, place = self.record, (GROUP, self.account, self.name)
        with record("application.create"):
            application = models.Application(properties=models.ApplicationProperties(display_name="A tool"))
            check(self.client.application.create(*place, application).name == self.name)
        for version in ("1.0", "2.0"):
            self._package(place, version)
        with record("application_package.list"):
            found = list(self.client.application_package.list(*place))
            check([each.name for each in found] == ["1.0", "2.0"], found)
        with record("application_package.get"):
            check(self.client.application_package.get(*place, "1.0").properties.state == "Active")
        with record("application.update"):
            changes = models.Application(properties=models.ApplicationProperties(default_version="2.0"))
            self.client.application.update(*place, changes)
            found = self.client.application.get(*place).properties
            check((found.default_version, found.display_name) == ("2.0", "A tool"), found)
        with record("application.get"):
            check(self.client.application.get(*place).id.endswith(self.name))
        with record("application.list"):
            check(self.name in [each.name for each in self.client.application.list(GROUP, self.account)])

    def _package(self, place: tuple[str, str, str], version: str) -> None:
        activation = models.ActivateApplicationPackageParameters(format="zip")
        with self.record("application_package.create"):
            made = self.client.application_package.create(*place, version).properties
            check(made.state == "Pending" and made.storage_url_expiry > dt.datetime.now(dt.timezone.utc), made)
        with self.record("application_package.activate", "refused before the upload"):
            try:
                self.client.application_package.activate(*place, version, activation)
            except HttpResponseError as error:
                check(error.status_code == 409, error)
            else:
                check(False, "an empty package was activated")
        BlobClient.from_blob_url(made.storage_url).upload_blob(package(f"tool {version}"), overwrite=True)
        with self.record("application_package.activate"):
            done = self.client.application_package.activate(*place, version, activation).properties
            check(done.state == "Active" and done.format == "zip", done)

    def pools(self) -> None:
        client, record, place = self.client.pool, self.record, (GROUP, self.account, self.name)
        image = models.ImageReference(**JAMMY, version="latest")
        machine = models.VirtualMachineConfiguration(image_reference=image, node_agent_sku_id=AGENT)
        identity = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/me"
        application = f"{self.client.application.get(*place).id}"
        with record("pool.create"):
            properties = models.PoolProperties(
                vm_size="STANDARD_D2S_V3",
                deployment_configuration=models.DeploymentConfiguration(virtual_machine_configuration=machine),
                scale_settings=models.ScaleSettings(fixed_scale=models.FixedScaleSettings(target_dedicated_nodes=1)),
                application_packages=[models.ApplicationPackageReference(id=application, version="1.0")],
                start_task=models.StartTask(command_line="/bin/true", wait_for_success=True),
                metadata=[models.MetadataItem(name="made", value="by a test")],
            )
            identities = {identity: models.UserAssignedIdentities()}
            owner = models.BatchPoolIdentity(type="UserAssigned", user_assigned_identities=identities)
            client.create(*place, models.Pool(properties=properties, identity=owner))
        with record("pool.get"):
            found = client.get(*place)
            check(list(found.identity.user_assigned_identities) == [identity], found.identity)
            check(found.properties.scale_settings.fixed_scale.target_dedicated_nodes == 1, found.properties)
            check(found.properties.start_task.user_identity.auto_user.elevation_level == "NonAdmin", found.properties)
            configured = found.properties.deployment_configuration.virtual_machine_configuration
            check(configured.node_agent_sku_id == AGENT, configured)
        with record("pool.list_by_batch_account"):
            check(self.name in [each.name for each in client.list_by_batch_account(GROUP, self.account)])
        with record("pool.update"):
            scale = models.ScaleSettings(auto_scale=models.AutoScaleSettings(formula="$TargetDedicatedNodes = 1;"))
            until(lambda: client.get(*place).properties.allocation_state == "Steady")
            client.update(*place, models.Pool(properties=models.PoolProperties(scale_settings=scale)))
            check(client.get(*place).properties.scale_settings.auto_scale.formula == "$TargetDedicatedNodes = 1;")
        until(lambda: client.get(*place).properties.allocation_state == "Steady")
        with record("pool.disable_auto_scale"):
            check(client.disable_auto_scale(*place).properties.scale_settings.fixed_scale)
        until(lambda: client.get(*place).properties.allocation_state == "Steady")
        with record("pool.stop_resize"):
            try:
                client.stop_resize(*place)
            except HttpResponseError as error:
                check(error.status_code == 409, error)  # it was steady already

    def token(self) -> None:
        """The data plane over TLS, with a token; the packages are on the node."""
        with BatchClient(self.endpoint, self.credential, retry_total=0) as client:
            with self.record("token: get_pool"):
                check(client.get_pool(self.name).current_dedicated_nodes == 1)
            with self.record("token: list_applications"):
                found = {each.id: each for each in client.list_applications()}[self.name]
                check(found.versions == ["1.0", "2.0"] and found.display_name == "A tool", found)
            with self.record("token: create_task", "with the packages of its pool and its own"):
                info = batch_models.BatchPoolInfo(pool_id=self.name)
                client.create_job(batch_models.BatchJobCreateOptions(id=self.name, pool_info=info))
                plain = self.name.replace("-", "_")
                command = f"$AZ_BATCH_APP_PACKAGE_{plain}_1_0/bin/tool && $AZ_BATCH_APP_PACKAGE_{plain}/bin/tool"
                own = batch_models.BatchApplicationPackageReference(application_id=self.name)
                task = batch_models.BatchTaskCreateOptions(
                    id="t", command_line=f"/bin/sh -c '{command}'", application_package_references=[own]
                )
                client.create_task(self.name, task)
                until(lambda: client.get_task(self.name, "t").state == "completed")
                said = b"".join(client.download_task_file(self.name, "t", "stdout.txt"))
                check(said == b"tool 1.0\ntool 2.0\n", (said, client.get_task(self.name, "t").execution_info))
            with self.record("token: delete_job"):
                client.begin_delete_job(self.name, polling_interval=0.2).result()

    def end(self) -> None:
        place = (GROUP, self.account, self.name)
        with self.record("pool.delete"):
            self.client.pool.begin_delete(*place, polling_interval=0.2).result()
            until(lambda: self.name not in [each.name for each in self.client.pool.list_by_batch_account(*place[:2])])
        with self.record("application_package.delete", "the default version is kept"):
            self.client.application_package.delete(*place, "1.0")
            check([each.name for each in self.client.application_package.list(*place)] == ["2.0"])


if __name__ == "__main__":
    settings_read = read_settings()
    os.environ["REQUESTS_CA_BUNDLE"] = settings_read["ca_bundle"]
    Program(settings_read).run()
