"""Why a service can't reach its authority; gRPC mostly gives no reason."""

from __future__ import annotations

import socket
import ssl

_TIMEOUT = 1.0


def of_plaintext(host: str, port: int) -> str | None:
    """Why `http://` does not work."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return "the port speaks TLS: use an https:// address"
    except ssl.SSLError:
        return None
    except OSError as error:
        return _connecting(error)


def of_tls(host: str, port: int, roots: bytes | None, client: tuple[str, str] | None) -> str | None:
    """Why `https://` does not work. `client` has the files of a client certificate and its key."""
    try:
        context = ssl.create_default_context(cadata=roots.decode() if roots else None)
        context.set_alpn_protocols(["h2"])
        if client:
            context.load_cert_chain(*client)
        with (
            socket.create_connection((host, port), _TIMEOUT) as connection,
            context.wrap_socket(connection, server_hostname=host) as encrypted,
        ):
            if encrypted.selected_alpn_protocol() != "h2":
                return "the port speaks TLS, but not HTTP/2"
            # With TLS 1.3 a server refuses a client certificate after the client's handshake is complete; a server that
            # does not refuse it sends its settings first.
            encrypted.recv(1)
    except ssl.SSLCertVerificationError as error:
        return f"the server's certificate is not accepted: {error.verify_message}"
    except ssl.SSLError as error:
        return _tls(error)
    except OSError as error:
        return _connecting(error)
    return None


def _tls(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "the port does not speak TLS: use an http:// address, or turn TLS on at the authority"
    if "CERTIFICATE_REQUIRED" in reason or reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":
        return "the authority wants a client certificate: see `client_certificate`"
    if reason.startswith(("TLSV1_ALERT", "SSLV3_ALERT", "TLSV13_ALERT")):
        return f"the authority does not accept the client certificate: {reason}"
    return f"TLS failed: {reason}"


def _connecting(error: OSError) -> str | None:
    if isinstance(error, TimeoutError):
        return None
    return f"{error.strerror or error}"
