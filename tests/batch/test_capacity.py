"""Room in an account, and what nodes cost: arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from azbatchwrap.batch.capacity import Capacity, Demand
from azbatchwrap.batch.management import MachineSize, Quotas
from azbatchwrap.batch.prices import Price, read_prices
from azbatchwrap.errors import ConfigurationError

SIZES = {
    "standard_d4s_v3": MachineSize("Standard_D4s_v3", "standardDSv3Family", 4, 16),
    "standard_f8s_v2": MachineSize("Standard_F8s_v2", "standardFSv2Family", 8, 16),
}
POOLS = [
    {"id": "busy", "vmSize": "STANDARD_D4S_V3", "currentDedicatedNodes": 2, "targetDedicatedNodes": 5},
    {"id": "spot", "vmSize": "standard_f8s_v2", "currentLowPriorityNodes": 3, "targetLowPriorityNodes": 1},
    {"id": "strange", "vmSize": "standard_unheard_of", "currentDedicatedNodes": 100},
]


def shares(demand: Demand, quotas: Quotas) -> dict[str, tuple[int, int, int, bool]]:
    found = Capacity(quotas, SIZES, POOLS, jobs=7).shares(demand)
    return {share.what: (share.wanted, share.used, share.limit, share.fits) for share in found}


def test_what_others_have_or_will_have_counts_in_cores() -> None:
    quotas = Quotas(100, 30, {"standarddsv3family": 40, "standardfsv2family": 1}, pools=3, jobs=8)
    assert shares(Demand("new", "standard_d4s_v3", 10, 2), quotas) == {
        "dedicated cores": (40, 20, 100, True),
        "dedicated cores of standardDSv3Family": (40, 20, 40, False),
        "spot cores": (8, 24, 30, False),
        "pools": (1, 3, 3, False),
        "active jobs": (1, 7, 8, True),
    }


def test_a_pools_own_nodes_are_not_counted_twice() -> None:
    assert shares(Demand("BUSY", "standard_d4s_v3", 25), Quotas(100, None)) == {"dedicated cores": (100, 0, 100, True)}


def test_an_unknown_size_has_no_cores_and_a_subscription_may_decide_itself() -> None:
    assert shares(Demand("new", "standard_unheard_of", 25), Quotas(100, 100)) == {}
    assert shares(Demand("new", "standard_d4s_v3", 25), Quotas(None, None)) == {}


def test_words_say_how_much_is_too_much() -> None:
    (share,) = Capacity(Quotas(50, None), SIZES, POOLS, 0).shares(Demand("new", "standard_d4s_v3", 10))
    assert str(share) == "dedicated cores: 40 wanted, 20 in use, 50 allowed: 10 too many"


def prices(folder: Path, content: object) -> Path:
    path = folder / "prices.json"
    path.write_text(json.dumps(content))
    return path


def test_prices_are_found_by_size_in_any_case(tmp_path: Path) -> None:
    table = {"currency": "EUR", "sizes": {"Standard_D4s_v3": {"dedicated": 0.2, "spot": 0.05}, "standard_f8s_v2": 0.4}}
    found = read_prices(prices(tmp_path, table))
    assert found.of("STANDARD_D4S_V3") == Price(0.2, 0.05, "EUR")
    assert found.of("standard_f8s_v2") == Price(0.4, 0.4, "EUR")
    assert found.of("standard_a1_v2") is None
    price = found.of("standard_d4s_v3")
    assert price is not None
    assert price.of(100, nodes=1, spot_nodes=3) == pytest.approx(25 * 0.2 + 75 * 0.05)
    assert price.of(100, nodes=0, spot_nodes=0) == pytest.approx(20)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "currency"),
        ({"sizes": {"a": "dear"}}, "a must be a number"),
        ({"sizes": {"a": {"spot": 1}}}, "no dedicated price"),
        ({"sizes": {"a": {"dedicated": 1, "weekend": 2}}}, "weekend"),
        ({"sizes": {"a": -1}}, "at least 0"),
        ([], "JSON object"),
    ],
)
def test_a_table_with_faults_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_prices(prices(tmp_path, content))
