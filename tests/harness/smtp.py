"""A mail server on this machine, with STARTTLS and authentication; it keeps what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import email
import email.policy
import ipaddress
import random
import socket
import ssl
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "hgci", "p@ss word"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and localhost that signs itself, and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "smtp-cert.pem", folder / "smtp-key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to no outgoing connection before
    somebody does."""
    while True:
        port = random.SystemRandom().randrange(10_000, 20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def held_port() -> socket.socket:
    """A socket with a port that nobody else is given and nobody listens on, until a server of ours
    does: that can be while the socket is still open."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


class Smtp:
    """The server. Messages are in `messages` in the order of arrival; each also becomes a file
    of `folder`."""

    def __init__(
        self,
        folder: Path,
        tls: bool = False,
        auth: bool = False,
        port: int = 0,
        smtps: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refuse: str | None = None
        # At a message that has this in it, the connection is dropped.
        self.hang_up_at: bytes | None = None
        # How often that was.
        self.hung_up = 0
        # Whether it never answers to QUIT.
        self.is_mute_at_quit = False
        self.cert: Path | None = None
        options: dict[str, Any] = {}
        if tls or smtps:
            self.cert, key = certificate(folder)
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.cert, key)
            options |= (
                {"ssl_context": context}
                if smtps
                else {"tls_context": context, "require_starttls": True}
            )
        if auth:
            options |= {
                "authenticator": self._authenticate,
                "auth_required": True,
                "auth_require_tls": tls,
            }
        # The controller connects to the port that it was given, so that 0 would not do.
        self._held = None if port else held_port()
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=port or (self._held.getsockname()[1] if self._held else 0),
            ready_timeout=60,
            **options,
        )

    # aiosmtpd calls it by this name.
    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.refuse:
            return self.refuse
        content = envelope.content
        assert isinstance(content, bytes)
        if self.hang_up_at is not None and self.hang_up_at in content:
            self.hung_up += 1
            assert server.transport is not None
            server.transport.close()
            return "421 not with me"
        (self.folder / f"{len(self.messages) + 1:03}.eml").write_bytes(content)
        self.recipients.append(list(envelope.rcpt_tos))
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 OK"

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:
        if self.is_mute_at_quit:
            await asyncio.Event().wait()
        return "221 Bye"

    def _authenticate(
        self, _server: object, _session: Session, _envelope: Envelope, _mechanism: str, data: object
    ) -> AuthResult:
        known = (
            isinstance(data, LoginPassword)
            and data.login == USER.encode()
            and data.password == PASSWORD.encode()
        )
        return AuthResult(success=known, handled=False)

    def start(self) -> None:
        self._controller.start()
        if self._held:
            self._held.close()

    def stop(self) -> None:
        self._controller.stop(no_assert=True)

    @property
    def port(self) -> int:
        server = self._controller.server
        assert server is not None
        return int(server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"
