"""The certificate of one data folder: an authority made for one signature, whose key is thrown away at once.

Clients trust the authority (``ca.pem``); with its key gone nobody can sign another certificate that they would believe.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import CertificateBuilder

#: How long a certificate lasts, and how long before its end a new one is made (days).
LIFETIME_DAYS, RENEWAL_DAYS = 825, 30
#: Where a program on this machine says which authorities it trusts, in the order that `requests` asks.
BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
#: The same for Node.js, which adds these to its own.
NODEJS_VARIABLE = "NODE_EXTRA_CA_CERTS"
AUTHORITY_NAME = "azbatchwrap: Azure on this machine"
_OURS = f"# {AUTHORITY_NAME}\n"


def trusting(bundle: str) -> dict[str, str]:
    """The variables that let programs trust the authorities in the file ``bundle``."""
    return dict.fromkeys((*BUNDLE_VARIABLES, NODEJS_VARIABLE), bundle)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a data folder: ``key`` is private, ``chain`` what the server shows, ``authority`` what it rests on."""

    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "server.key"

    @property
    def chain(self) -> Path:
        return self.folder / "server.pem"

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def bundle(self) -> Path:
        return self.folder / "ca-bundle.pem"

    def ensure(self) -> None:
        """Make the certificate unless there is one that lasts."""
        if self.key.exists() and self.chain.exists() and self.authority.exists() and not self._ends_soon():
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority, chain, key = _make()
        _write(self.key, key, 0o600)
        _write(self.chain, chain, 0o644)
        _write(self.authority, authority, 0o644)

    def write_bundle(self, environment: Mapping[str, str]) -> Path:
        """The authorities in force for ``environment``, and ours: what ``REQUESTS_CA_BUNDLE`` may name."""
        in_force = self._in_force(environment).read_text(encoding="utf-8", errors="replace").partition(_OURS)[0]
        content = f"{in_force.rstrip()}\n\n{_OURS}{self.authority.read_text()}"
        if not self.bundle.exists() or self.bundle.read_text(encoding="utf-8", errors="replace") != content:
            _write(self.bundle, content.encode(), 0o644)
        return self.bundle

    def _in_force(self, environment: Mapping[str, str]) -> Path:
        for name in BUNDLE_VARIABLES:
            path = Path(environment.get(name) or "/nowhere")
            if path.is_file():
                return path
        import certifi

        return Path(certifi.where())

    def _ends_soon(self) -> bool:
        from cryptography import x509

        end = x509.load_pem_x509_certificate(self.chain.read_bytes()).not_valid_after_utc
        return end - dt.datetime.now(dt.timezone.utc) < dt.timedelta(days=RENEWAL_DAYS)


def _make() -> tuple[bytes, bytes, bytes]:
    """Authority certificate, server certificate and server key, each PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    places = [x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")), x509.DNSName("localhost")]
    authority = _begin(AUTHORITY_NAME, authority_key, authority_key, is_authority=True)
    server = (
        _begin("127.0.0.1", server_key, authority_key, is_authority=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
    )
    pem = serialization.Encoding.PEM
    return (
        authority.sign(authority_key, hashes.SHA256()).public_bytes(pem),
        server.sign(authority_key, hashes.SHA256()).public_bytes(pem),
        server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _begin(
    subject: str, key: EllipticCurvePrivateKey, issuer_key: EllipticCurvePrivateKey, *, is_authority: bool
) -> CertificateBuilder:
    """What both certificates have, with the extensions that strict clients insist on."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    start = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=1)  # clocks differ
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    path_length = 0 if is_authority else None
    issuer = issuer_key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(AUTHORITY_NAME))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=LIFETIME_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Beside, then rename: nobody reads half of it."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(content)
    beside.replace(path)
