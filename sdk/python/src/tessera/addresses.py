"""The addresses of an authority's nodes, and which of them is next.

gRPC can choose among several addresses too (`ipv4:a,b` with `pick_first` or `round_robin`). But it accepts no names
there, uses one name for the certificates of all addresses, and leaves an address only if no connection can be made. A
client must also leave a node that answers UNAVAILABLE, or that is frozen, and a stream must know its address to report
it. So each address has a separate channel, and this module chooses among them, for verifiers and for calls.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from tessera.errors import ConfigurationError

#: More are a mistake: an authority has only a few nodes.
_ADDRESSES_MAX = 16
_EXAMPLE = "https://auth.example.org:7600"
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^\[\]:\\]+")
_PORT_MAX = 65535


class Addresses:
    """The addresses of one authority, in the order in which they are tried: random, unless `in_order`. So many clients
    spread over the nodes, and over the remaining nodes if one is lost. All objects of one connection share the
    preferred address, so that a failure that one of them finds saves the others an attempt."""

    def __init__(self, address: str | Iterable[str], in_order: bool = False) -> None:
        given: dict[str, str] = {}
        for one in _listed(address):
            # Duplicates with another spelling are left out.
            given.setdefault(one.rstrip("/").lower(), one)
        self.given = tuple(given.values())
        _check(self.given)
        #: In the order in which they are tried.
        self.tried = self.given if in_order else tuple(random.sample(self.given, len(self.given)))
        self._in_order = in_order
        # Threads change it without a lock, which a fork could leave locked: at worst an address is tried without
        # success.
        self._preferred = 0

    def __str__(self) -> str:
        return ", ".join(self.given)

    def __len__(self) -> int:
        return len(self.tried)

    @property
    def scheme(self) -> str:
        """The scheme of all addresses."""
        return split(self.given[0])[0]

    @property
    def preferred(self) -> int:
        """The index of the address that worked last."""
        return self._preferred

    def leave(self, at: int) -> None:
        """The address at this index failed: others need not try it first."""
        # If another one is preferred already, another thread was faster.
        if self._preferred == at:
            self._preferred = self.after(at)

    def prefer(self, at: int) -> None:
        """The address at this index works."""
        self._preferred = at

    def after(self, at: int) -> int:
        """The next index."""
        return (at + 1) % len(self.tried)

    def resume_in_child(self) -> None:
        """After a fork: child processes spread over the nodes, too."""
        if not self._in_order:
            self._preferred = random.randrange(len(self.tried))


class Round:
    """One search for an address that works; it begins at the address that worked last."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        #: The current index.
        self.at = addresses.preferred
        self._failed = 0

    @property
    def address(self) -> str:
        """The current address."""
        return self._addresses.tried[self.at]

    @property
    def is_over(self) -> bool:
        """Whether each address has failed."""
        return self._failed >= len(self._addresses)

    @property
    def is_at_last(self) -> bool:
        """Whether the current address is the last one of this round."""
        return (self._failed + 1) % len(self._addresses) == 0

    def leave(self) -> bool:
        """Moves to the next address, because this one failed. Returns whether each address has failed once more, so
        that it is time to wait."""
        self._addresses.leave(self.at)
        self.at = self._addresses.after(self.at)
        self._failed += 1
        return self._failed % len(self._addresses) == 0

    def worked(self) -> bool:
        """The current address works. Returns whether one had failed before."""
        had_failed = self._failed > 0
        self._failed = 0
        if had_failed:
            self._addresses.prefer(self.at)
        return had_failed


def split(address: str) -> tuple[str, str]:
    """The scheme of an address, and the target for gRPC."""
    scheme, _, target = address.partition("://")
    scheme, target = scheme.lower(), target.rstrip("/")
    # Without a port, gRPC uses that of https.
    return scheme, target if scheme == "https" or re.search(r":[0-9]+$", target) else f"{target}:80"


def _listed(address: str | Iterable[str]) -> list[str]:
    """Each address separately."""
    texts = [address] if isinstance(address, str) else address
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise ConfigurationError(f"no address: name at least one, such as {_EXAMPLE}, not {texts!r}")
    listed = list(texts)
    if not all(isinstance(text, str) for text in listed):
        raise ConfigurationError(f"an address is a text such as {_EXAMPLE}: not {listed!r}")
    if not "".join(listed).strip():
        raise ConfigurationError(f"no address: name at least one, such as {_EXAMPLE}")
    return [part.strip() for text in listed for part in text.split(",")]


def _check(given: tuple[str, ...]) -> None:
    if len(given) > _ADDRESSES_MAX:
        raise ConfigurationError(f"{len(given)} addresses are more than {_ADDRESSES_MAX}")
    for address in given:
        problem = _problem(address)
        if problem:
            raise ConfigurationError(f"`{_without_secrets(address)}` is not an address such as {_EXAMPLE}: {problem}")
    if len({split(address)[0] for address in given}) > 1:
        raise ConfigurationError(
            "some of the addresses have encryption and some have not: use https:// for all of " + ", ".join(given)
        )


def _problem(address: str) -> str | None:
    """What is wrong with an address."""
    scheme, _, rest = address.partition("://")
    if scheme.lower() not in ("http", "https"):
        return "it begins neither with https:// nor with http://"
    for sign, what in (("@", "a user"), ("?", "a query"), ("#", "a fragment")):
        if sign in rest:
            return f"it has {what}"
    authority, _, path = rest.partition("/")
    if path:
        return "it has a path"
    if any(sign.isspace() or not sign.isprintable() for sign in authority):
        return "it has a space or a control character"
    host = re.sub(r":[0-9]*$", "", authority)
    if not _HOST.fullmatch(host):
        return "its host can't be read" if host else "it has no host"
    if host == authority:
        return None
    # A longer one is too large in any case.
    port = int(authority[len(host) + 1 :][:6] or 0)
    return None if 1 <= port <= _PORT_MAX else f"its port is not between 1 and {_PORT_MAX}"


def _without_secrets(address: str) -> str:
    """An address for an error: it may have a password, or be an API key."""
    return re.sub(r"tsk_.*", "tsk_…", re.sub(r"://.*@", "://…@", address))
