"""What survives `kill -9`."""

from __future__ import annotations

import requests

from tests.fixtures_aml import ArmProcess
from tests.local.arm.conftest import Group, unique
from tests.waiting import wait_until


def test_nothing_is_lost(fresh_arm: ArmProcess) -> None:
    group = Group(fresh_arm, unique("rg-"))
    group.make()
    fresh_arm.admin.fault("slow", "/things/slow", seconds=1.5, times=1)
    fresh_arm.admin.fault("hang", "/things/hung", times=1)
    fresh_arm.admin.fault("throttled", "/things/later", times=1)
    token = fresh_arm.token()
    slow, _, quick = group.slow("slow"), group.slow("hung"), group.slow("quick")
    assert quick.json()["properties"]["provisioningState"] == "Succeeded"
    fresh_arm.kill9()
    fresh_arm.start()
    assert group.get("Contoso.Things/things", "quick").json() == quick.json()
    assert group.state("hung") == "Creating"
    wait_until(lambda: group.state("slow") == "Succeeded")
    assert fresh_arm.ask("GET", slow.headers["azure-asyncoperation"]).json()["status"] == "Succeeded"
    assert group.slow("later").status_code == 429
    # Tokens that were given out go on, and so does the certificate.
    answer = requests.get(
        f"{fresh_arm.url}{group.path}?api-version=2021-04-01",
        headers={"authorization": f"Bearer {token}"},
        verify=fresh_arm.bundle,
        timeout=30,
    )
    assert answer.status_code == 200
