"""What nodes cost: a table in a file of the user's own, since prices depend on region, contract and day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from azbatchwrap.config import read_json_object
from azbatchwrap.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Price:
    """Of one node for an hour."""

    dedicated: float
    spot: float
    currency: str = ""

    def of(self, hours: float, nodes: int, spot_nodes: int) -> float:
        """Of so many node-hours, spread over a pool's nodes of both kinds."""
        share = spot_nodes / (nodes + spot_nodes) if nodes + spot_nodes else 0.0
        return hours * (self.spot * share + self.dedicated * (1 - share))


@dataclass(frozen=True, slots=True)
class Prices:
    """A table: VM size in lower case -> price."""

    table: Mapping[str, Price]

    def of(self, vm_size: str) -> Price | None:
        """The price of a size, if the table has it."""
        return self.table.get(vm_size.lower())


def read_prices(path: Path) -> Prices:
    """``{"currency": "EUR", "sizes": {"standard_d2s_v3": {"dedicated": 0.1, "spot": 0.02}}}``.

    A number in place of the inner object is the dedicated price; without a spot price, spot nodes cost as much.
    Raises ConfigurationError that names the entry.
    """
    content = read_json_object(path)
    currency, sizes = content.get("currency", ""), content.get("sizes")
    if not isinstance(sizes, dict) or not isinstance(currency, str):
        raise ConfigurationError(f'{path} must hold {{"currency": "…", "sizes": {{"VM size": price, …}}}}')
    return Prices({str(name).lower(): _price(f"{path}: {name}", given, currency) for name, given in sizes.items()})


def _price(where: str, given: object, currency: str) -> Price:
    entry = given if isinstance(given, dict) else {"dedicated": given}
    if unknown := sorted(entry.keys() - {"dedicated", "spot"}):
        raise ConfigurationError(f"{where} has {', '.join(unknown)}; a price has dedicated and spot")
    if "dedicated" not in entry:
        raise ConfigurationError(f"{where} has no dedicated price")
    dedicated = _amount(where, entry["dedicated"])
    return Price(dedicated, _amount(where, entry["spot"]) if "spot" in entry else dedicated, currency)


def _amount(where: str, given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or given < 0:
        raise ConfigurationError(f"{where} must be a number of at least 0, not {given!r}")
    return float(given)
