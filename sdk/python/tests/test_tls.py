"""Whom a connection trusts, and what it says where it does not work."""

from __future__ import annotations

import os
import ssl
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives import serialization

import tessera
from certificates import Pem, TlsServer
from support import AuthorityCase

CALLS = tessera.ClientOptions(deadline=1.5)


class Tls(AuthorityCase):
    root: Pem
    server: Pem
    service: Pem

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.root = Pem(is_authority=True)
        cls.server, cls.service = Pem(cls.root), Pem(cls.root)

    def serve(self, **options: Any) -> int:
        server = TlsServer(self.authority.address, self.server, self.authority.directory, **options)
        self.addCleanup(server.close)
        return server.port

    def connection(self, scheme: str, port: int, **options: Any) -> tessera.Connection:
        api_key = self.authority.connection().api_key
        return tessera.Connection(f"{scheme}://localhost:{port}", api_key, **options)

    def ask(self, connection: tessera.Connection) -> str:
        """What a call ends with."""
        client = tessera.Client(connection, CALLS)
        self.addCleanup(client.close)
        try:
            return f"{len(client.list_keys('production'))} keys"
        except tessera.CallError as error:
            return str(error)

    def test_each_side_is_asked_who_it_is(self) -> None:
        trusting: dict[str, Any] = {"certificate_authority": self.root.certificate}
        known: dict[str, Any] = {"client_certificate": self.service.certificate, "client_key": self.service.key}
        stranger = Pem()
        unknown: dict[str, Any] = {"client_certificate": stranger.certificate, "client_key": stranger.key}
        tls, asking = self.serve(), self.serve(client_authority=self.root)
        self.assertEqual(self.ask(self.connection("https", tls, **trusting)), "1 keys")
        self.assertEqual(self.ask(self.connection("https", asking, **trusting, **known)), "1 keys")
        texts = {name: pem.decode() for name, pem in {**trusting, **known}.items()}
        self.assertEqual(self.ask(self.connection("https", asking, **texts)), "1 keys")
        plain = int(self.authority.address.rpartition(":")[2])
        for what, connection, expected in [
            ("strangers", self.connection("https", tls), "the server's certificate is not accepted: "),
            ("no certificate", self.connection("https", asking, **trusting), "the authority wants a client certificate"),
            ("another one", self.connection("https", asking, **trusting, **unknown), "not accept the client certificate"),
            ("no TLS there", self.connection("https", plain, **trusting), "the port does not speak TLS"),
            ("no TLS here", self.connection("http", tls), "the port speaks TLS: use an https:// address"),
        ]:
            with self.subTest(what):
                self.assertIn(expected, self.ask(connection))
        # A verifier says so too.
        verifier = tessera.Verifier(self.connection("http", tls), "production", "api", staleness_bound=0.5)
        self.addCleanup(verifier.close)
        with self.assertLogs("tessera", "WARNING"), self.assertRaises(tessera.NotReadyError) as refused:
            verifier.ready(3)
        self.assertIn("speaks TLS", str(refused.exception))

    def test_of_several_addresses_one_with_a_wrong_certificate_is_left(self) -> None:
        stranger = TlsServer(self.authority.address, Pem(), self.authority.directory)
        self.addCleanup(stranger.close)
        good, wrong = f"https://localhost:{self.serve()}", f"https://127.0.0.1:{stranger.port}"
        api_key = self.authority.connection().api_key
        options: dict[str, Any] = {"certificate_authority": self.root.certificate, "in_order": True}
        for addresses in ([wrong, good], [good, wrong]):
            self.assertEqual(self.ask(tessera.Connection(addresses, api_key, **options)), "1 keys")
        said = self.ask(tessera.Connection([wrong, wrong.replace("127.0.0.1", "localhost")], api_key, **options))
        self.assertIn(f":{stranger.port}: the server's certificate is not accepted: ", said)

    def test_what_the_system_trusts_is_trusted(self) -> None:
        file = self.authority.directory / "roots.pem"
        file.write_bytes(self.root.certificate)
        with mock.patch.dict(os.environ, SSL_CERT_FILE=str(file)):
            self.assertEqual(self.ask(self.connection("https", self.serve())), "1 keys")
        with mock.patch.dict(os.environ, SSL_CERT_FILE="/nowhere"), self.assertRaises(tessera.ConfigurationError):
            self.connection("https", 1)

    def test_certificates_that_cannot_be_used_are_refused_at_once(self) -> None:
        encrypted = self.service.key_encrypted(serialization.BestAvailableEncryption(b"secret"))
        certificate = self.service.certificate
        for options, expected in [
            ({"certificate_authority": b"x"}, "is not a PEM certificate"),
            ({"client_certificate": certificate}, "needs its key"),
            ({"client_certificate": certificate, "client_key": b"x"}, "is not a PEM private key"),
            ({"client_certificate": certificate, "client_key": encrypted}, "is encrypted: decrypt it first"),
            ({"client_certificate": b"x", "client_key": self.service.key}, "is not a PEM certificate"),
            ({"client_certificate": certificate, "client_key": self.server.key}, "`client_certificate` and `client_key`"),
            ({"client_certificate": certificate, "client_key": self.server.key}, "is not the key of the certificate"),
            ({"certificate_authority": ssl.PEM_cert_to_DER_cert(self.root.certificate.decode())}, "not DER"),
            ({"certificate_authority": "/etc/ssl/root.pem"}, "not its name"),
            ({"certificate_authority": 1}, "as bytes or text"),
            ({"certificate_authority": b"\xef\xbb\xbf" + self.root.certificate}, "byte order mark"),
            ({"certificate_authority": "\ufeff" + self.root.certificate.decode()}, "byte order mark"),
            ({"client_certificate": certificate, "client_key": b"\xef\xbb\xbf" + self.service.key}, "byte order mark"),
        ]:
            with self.subTest(expected), self.assertRaises(tessera.ConfigurationError) as refused:
                self.connection("https", 1, **options)
            self.assertIn(expected, str(refused.exception))
        with self.assertRaises(tessera.ConfigurationError):
            self.connection("http", 1, certificate_authority=self.root.certificate)
        shown = repr(self.connection("https", 1, client_certificate=certificate, client_key=self.service.key))
        self.assertNotIn("PRIVATE", shown)
