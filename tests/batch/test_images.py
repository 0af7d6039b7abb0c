from __future__ import annotations

from datetime import datetime, timezone

import pytest

from azbatchwrap.batch.images import choose
from azbatchwrap.errors import PoolError

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)


def image(publisher, offer, sku, agent, *, ends=None, verified="verified", os="linux"):
    item = {
        "imageReference": {"publisher": publisher, "offer": offer, "sku": sku, "version": "latest"},
        "nodeAgentSKUId": agent,
        "verificationType": verified,
        "osType": os,
    }
    return {**item, **({"batchSupportEndOfLife": ends} if ends else {})}


JAMMY = image("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts", "batch.node.ubuntu 22.04")
NOBLE = image("canonical", "ubuntu-24_04-lts", "server", "batch.node.ubuntu 24.04")
NOBLE_GEN1 = image("canonical", "ubuntu-24_04-lts", "server-gen1", "batch.node.ubuntu 24.04")
INTERIM = image("canonical", "ubuntu-25_04", "server", "batch.node.ubuntu 25.04")
CENTOS = image("openlogic", "centos", "7_9", "batch.node.centos 7", ends="2024-06-30T00:00:00Z")
WINDOWS = image("microsoftwindowsserver", "windowsserver", "2022-datacenter", "batch.node.windows amd64", os="windows")
UNVERIFIED = image("canonical", "ubuntu-26_04-lts", "server", "batch.node.ubuntu 26.04", verified="unverified")
ALL = [WINDOWS, NOBLE_GEN1, CENTOS, JAMMY, INTERIM, UNVERIFIED, NOBLE]


def test_the_named_image_is_taken_without_regard_to_case():
    chosen, replaced = choose(ALL, "Canonical", "0001-com-ubuntu-server-jammy", "22_04", now=NOW)
    assert (chosen.sku, chosen.node_agent, replaced) == ("22_04-lts", "batch.node.ubuntu 22.04", "")


def test_among_skus_of_one_prefix_the_plain_one_is_taken():
    assert choose(ALL, "canonical", "ubuntu-24_04-lts", "server", now=NOW)[0].sku == "server"


@pytest.mark.parametrize(
    ("publisher", "offer", "sku"),
    [
        ("OpenLogic", "CentOS", "7.7"),
        ("OpenLogic", "CentOS", "7_9"),
        ("canonical", "ubuntu-26_04-lts", "server"),
        ("microsoftwindowsserver", "windowsserver", "2022"),
    ],
)
def test_what_is_retired_unverified_or_no_linux_gets_a_named_substitute(publisher, offer, sku):
    chosen, replaced = choose(ALL, publisher, offer, sku, now=NOW)
    assert str(chosen) == "canonical ubuntu-24_04-lts server"
    assert f"{publisher} {offer} {sku}" in replaced
    assert str(chosen) in replaced


def test_an_account_without_any_usable_image_says_so():
    with pytest.raises(PoolError, match="OpenLogic CentOS"):
        choose([WINDOWS, CENTOS], "OpenLogic", "CentOS", "7", now=NOW)


def test_a_pool_body_names_the_agent():
    assert choose(ALL, "canonical", "ubuntu-24_04-lts", "server", now=NOW)[0].wire() == {
        "imageReference": {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"},
        "nodeAgentSKUId": "batch.node.ubuntu 24.04",
    }
