"""The certificate of a data folder, and the bundle that clients are given."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

import certifi
import pytest
from cryptography import x509

from azbatchwrap.local.arm import certificate as module
from azbatchwrap.local.arm.certificate import Certificate


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    made = Certificate(tmp_path / "tls")
    made.ensure()
    return made


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_server_is_this_machine_and_signed_by_the_authority(certificate: Certificate) -> None:
    server, authority = read(certificate.chain), read(certificate.authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    server.verify_directly_issued_by(authority)
    assert certificate.key.stat().st_mode & 0o777 == 0o600


def test_the_authoritys_key_is_nowhere(certificate: Certificate) -> None:
    assert {path.name for path in certificate.folder.iterdir()} == {"server.key", "server.pem", "ca.pem"}
    assert certificate.key.read_text().count("PRIVATE KEY") == 2


def test_it_stays(certificate: Certificate) -> None:
    before = certificate.chain.read_bytes()
    certificate.ensure()
    assert certificate.chain.read_bytes() == before


def test_it_is_renewed_before_it_ends(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(certificate.chain)
    monkeypatch.setattr(module, "RENEWAL_DAYS", module.LIFETIME_DAYS + 1)
    certificate.ensure()
    assert read(certificate.chain).serial_number != before.serial_number
    assert read(certificate.chain).not_valid_after_utc > dt.datetime.now(dt.timezone.utc)


class TestBundle:
    def test_of_a_machine_that_says_nothing(self, certificate: Certificate) -> None:
        content = certificate.write_bundle({}).read_text()
        assert content.startswith(Path(certifi.where()).read_text().rstrip()[:1000])
        assert content.endswith(certificate.authority.read_text())

    def test_of_one_with_authorities_of_its_own(self, certificate: Certificate, tmp_path: Path) -> None:
        (tmp_path / "own.pem").write_text("# the company's\n")
        content = certificate.write_bundle({"REQUESTS_CA_BUNDLE": str(tmp_path / "own.pem")}).read_text()
        assert content.startswith("# the company's")
        assert certificate.authority.read_text() in content

    def test_written_on_top_of_itself_it_does_not_grow(self, certificate: Certificate) -> None:
        first = certificate.write_bundle({}).read_text()
        second = certificate.write_bundle({"REQUESTS_CA_BUNDLE": str(certificate.bundle)}).read_text()
        assert first == second
