"""Scopes whose parameters come from the path of a request: `videos/{id}:play`.

A hook decides by the path, and the application behind it reads the path again. So a path that two readers may read
differently is refused, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from tessera.errors import ConfigurationError

_PARAMETER = re.compile(r"\{([A-Za-z0-9_]+)\}")
#: The allowed value of a parameter in a scope: one segment of its resource.
_VALUE = re.compile(r"[A-Za-z0-9._~:@-]+")
_ACTION = re.compile(r"[A-Za-z0-9_-]+")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BYTES_MAX = 8 * 1024


class PathError(Exception):
    """No scope can be made from a path: the path does not match, is ambiguous, or has a value that no scope can
    have."""


def parameters_of(scope: str) -> set[str]:
    """The names of a scope's parameters. ConfigurationError if it is not a scope even with them filled in: no token
    could have it."""
    if not isinstance(scope, str):
        raise _not_a_scope(scope)
    resource, _, action = scope.rpartition(":")
    names = set()
    for segment in resource.split("/"):
        parameter = _PARAMETER.fullmatch(segment)
        if parameter:
            names.add(parameter[1])
        elif not _is_value(segment):
            raise _not_a_scope(scope)
    if not _ACTION.fullmatch(action):
        raise _not_a_scope(scope)
    return names


def fill(scope: str, parameters: Mapping[str, object]) -> str:
    """The scope with these parameters. PathError if one is missing, or has a value that no scope can have."""
    resource, _, action = scope.rpartition(":")
    filled = []
    for segment in resource.split("/"):
        parameter = _PARAMETER.fullmatch(segment)
        value = str(parameters.get(parameter[1], "")) if parameter else segment
        if not _is_value(value):
            raise PathError(f"no scope can have the value that is given for {segment}")
        filled.append(value)
    return f"{'/'.join(filled)}:{action}"


@dataclass(frozen=True)
class PathPattern:
    """A pattern such as `/videos/{id}/play`: `{id}` is one whole segment, `/*` at the end is everything beneath."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise _not_a_pattern(self.text)
        names = [parameter for part in self._parts for parameter in _PARAMETER.findall(part)]
        is_right = self.text.startswith("/") and len(set(names)) == len(names)
        if not is_right or any(not _is_part(part) for part in self._parts):
            raise _not_a_pattern(self.text)

    @property
    def names(self) -> set[str]:
        """The names of its parameters."""
        return {match[1] for match in map(_PARAMETER.fullmatch, self._parts) if match}

    @property
    def _has_more(self) -> bool:
        return self.text.endswith("/*")

    @property
    def _parts(self) -> list[str]:
        text = self.text.removesuffix("/*") if self._has_more else self.text
        return text[1:].split("/") if text not in ("", "/") else []

    def parameters(self, raw_path: str) -> dict[str, str]:
        """The values of the parameters in a path as it was sent. PathError if it does not match."""
        segments, parts = called(raw_path), self._parts
        if len(segments) < len(parts) or (len(segments) > len(parts) and not self._has_more):
            raise PathError(f"the path is not one of {self.text!r}")
        found = {}
        for part, segment in zip(parts, segments):
            parameter = _PARAMETER.fullmatch(part)
            if parameter:
                found[parameter[1]] = segment
            elif part != segment:
                raise PathError(f"the path is not one of {self.text!r}")
        return found


def called(raw_path: str) -> list[str]:
    """The segments of a path as it was sent; it may have a query. One `/` at the end is ignored."""
    path = raw_path.split("?", 1)[0]
    if not path.startswith("/") or len(path) > _BYTES_MAX:
        raise PathError("the path does not begin with `/`, or is too long")
    if path == "/":
        return []
    return [_segment(raw) for raw in path[1:].removesuffix("/").split("/")]


def _not_a_scope(scope: object) -> ConfigurationError:
    return ConfigurationError(
        f"{scope!r} is not a scope that a token can have: write one `resource:action`, such as 'videos:read'"
    )


def _not_a_pattern(path: object) -> ConfigurationError:
    return ConfigurationError(f"{path!r} is not a pattern of paths such as '/videos/{{id}}/play'")


def _segment(raw: str) -> str:
    if not raw or not all("!" <= sign <= "~" for sign in raw) or _BAD_PERCENT.search(raw):
        raise PathError("the path has an empty segment, a character that may not be there, or a wrong encoding")
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise PathError("the path is not UTF-8") from error
    is_unclear = text in (".", "..") or "#" in raw or any(sign in text for sign in "/\\;")
    if is_unclear or _ENCODED.search(text) or any(_is_control(sign) for sign in text):
        raise PathError("the path can be read in more than one way")
    return text


def _is_control(sign: str) -> bool:
    return sign < " " or "\x7f" <= sign <= "\x9f"


def _is_part(part: str) -> bool:
    is_plain = part not in ("", ".", "..") and not any(sign in "{}*%?#;\\" or _is_control(sign) for sign in part)
    return is_plain or _PARAMETER.fullmatch(part) is not None


def _is_value(text: str) -> bool:
    return _VALUE.fullmatch(text) is not None and text not in (".", "..")
