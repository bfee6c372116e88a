"""Secrets: references that are recorded in place of values, and what keeps the values out of the journal.

Two lines of defence. What was declared is known: a `Redactor` holds the resolved values and replaces them wherever they
turn up. What was not declared can only be guessed: the detectors look for the *shapes* of well-known secrets, never for
words such as "password", so that ordinary text raises no alarm.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, cast

import orjson

from perdure.core.canonical import JSONValue, canonical, parse
from perdure.core.errors import SecretError, ValueRefusedError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

MIN_SECRET_LENGTH: Final = 4
"""Shorter values cannot be told from ordinary text, so they cannot be kept out of it."""

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,254}|file:[^\x00-\x1f\x7f]{1,4096}")


class Secret:
    """A reference to a secret; the value itself is looked up inside a step and recorded nowhere.

    Args:
        reference: `env:NAME`, an environment variable, or `file:PATH`, a file's content without its final newline.

    Raises:
        SecretError: the reference is neither.
    """

    __slots__ = ("reference",)

    reference: str

    def __init__(self, reference: str) -> None:
        if type(reference) is not str or not _REFERENCE.fullmatch(reference):
            # Not shown: somebody may have passed the value where the reference belongs.
            raise SecretError(
                "a secret is a reference, 'env:NAME' or 'file:PATH'", hint="pass Secret('env:NAME'), never the value"
            )
        object.__setattr__(self, "reference", reference)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Secret cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Secret cannot be changed")

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return (Secret, (self.reference,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash((Secret, self.reference))

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """What stands in place of the value: `[secret env:NAME]`."""
        return f"[secret {self.reference}]"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Lets a pydantic model have fields of this type; outside it is written as its reference."""
        from pydantic_core import core_schema

        from_text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_text]),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda secret: secret.reference),
        )


def resolve(secret: Secret, environ: Mapping[str, str], read_file: Callable[[str], str]) -> str:
    """Look up the value of a secret.

    Args:
        secret: the reference.
        environ: the environment's variables.
        read_file: reads the text of the file at a path; may raise `OSError` or `UnicodeError`.

    Raises:
        SecretError: there is no such variable or file, or its value has fewer than `MIN_SECRET_LENGTH` characters.
    """
    source, _, name = secret.reference.partition(":")
    if source == "env":
        value = environ.get(name)
        if value is None:
            raise SecretError(f"the environment variable {name} is not set", secret=secret.reference)
    else:
        try:
            value = read_file(name).removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise SecretError(f"the file {name} cannot be read: {reason}", secret=secret.reference) from None
    _check_length(secret, value)
    return value


def _check_length(secret: Secret, value: str) -> None:
    if len(value) < MIN_SECRET_LENGTH:
        raise SecretError(
            f"the value of {secret.reference} is shorter than {MIN_SECRET_LENGTH} characters, "
            "too short to be kept out of the journal",
            hint="use a longer secret",
            secret=secret.reference,
        )


# --- declared values --------------------------------------------------------------------------------------------------


class Redactor:
    """Replaces the values of declared secrets by their labels, in text, in bytes and in JSON trees.

    A value is found as it is and as JSON text writes it, also where that JSON text stands in a payload as text. Another
    encoding of it (base64, a percent-encoded URL) is another text. May be used by several threads.
    """

    def __init__(self) -> None:
        self._labels: dict[str, str] = {}
        self._labels_of_bytes: dict[bytes, bytes] = {}
        self._text: re.Pattern[str] | None = None
        self._bytes: re.Pattern[bytes] | None = None

    def __bool__(self) -> bool:
        return self._text is not None

    def declare(self, secret: Secret, value: str) -> None:
        """Keep this value out of everything that is redacted from now on.

        Args:
            secret: the reference; its label takes the value's place.
            value: what it resolved to.

        Raises:
            SecretError: the value has fewer than `MIN_SECRET_LENGTH` characters.
        """
        _check_length(secret, value)
        if value in self._labels:
            return
        labels = dict(self._labels)
        for form in _forms(value):
            labels.setdefault(form, secret.label)
        labels_of_bytes: dict[bytes, bytes] = {}
        for form, label in labels.items():
            for escaped in _forms(form):  # text that is JSON itself is escaped twice in a payload
                labels_of_bytes.setdefault(escaped.encode("utf-8", "surrogatepass"), _escaped(label).encode())
        # The longest first: one value may contain another.
        text = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
        data = b"|".join(map(re.escape, sorted(labels_of_bytes, key=len, reverse=True)))
        # Each attribute is replaced as a whole, the patterns last, so that other threads see consistent ones.
        self._labels, self._labels_of_bytes = labels, labels_of_bytes
        self._bytes, self._text = re.compile(data), re.compile(text)

    def redact_text(self, text: str) -> str:
        """The text with each declared value replaced by `[secret …]`."""
        if self._text is None:
            return text
        return self._text.sub(lambda match: self._labels[match.group()], text)

    @property
    def longest(self) -> int:
        """The characters of the longest text that is looked for."""
        return max(map(len, self._labels), default=0)

    def cut(self, text: str, place: int) -> int:
        """The last place, at most this one, where a text that goes on can be cut: no declared value lies across it, and
        none that is not complete begins before it."""
        if self._text is None:
            return place
        for form in self._labels:
            begun = text.find(form[0], max(0, place - len(form) + 1), place)
            while begun >= 0 and not form.startswith(text[begun:place]):
                begun = text.find(form[0], begun + 1, place)
            if begun >= 0:
                place = begun
        for match in self._text.finditer(text):
            if match.start() < place < match.end():
                return match.start()
        return place

    def redact_bytes(self, data: bytes) -> bytes:
        """The bytes with each declared value replaced by `[secret …]`.

        Canonical JSON stays canonical JSON, whatever the values look like, and is redacted as `redact_tree` does it.
        """
        if self._bytes is None or not (self._bytes.search(data) or _BYTES_TAG in data):
            return data
        tree = _canonical_tree(data)
        if tree is not _NOT_CANONICAL:
            return canonical(self.redact_tree(cast("JSONValue", tree)))
        return self._bytes.sub(lambda match: self._labels_of_bytes[match.group()], data)

    def redact_tree(self, tree: JSONValue) -> JSONValue:
        """A JSON tree with each declared value replaced, in keys, texts and numbers, and within recorded bytes.

        A number, or a scalar that is recorded as tagged text, becomes the label as text when it holds a value.
        """
        if self._text is None:
            return tree
        if type(tree) is str:
            return self.redact_text(tree)
        if type(tree) is list:
            return [self.redact_tree(child) for child in tree]
        if type(tree) is dict:
            return self._redact_tagged(tree) if _is_tagged(tree) else self._redact_object(tree)
        if tree is None or type(tree) is bool:
            return tree
        number = canonical(tree).decode()
        redacted = self.redact_text(number)
        return tree if redacted == number else redacted

    def _redact_object(self, members: dict[str, JSONValue]) -> dict[str, JSONValue]:
        redacted: dict[str, JSONValue] = {}
        for key, child in members.items():
            name = self.redact_text(key)
            while name in redacted or (name != key and name in members):
                name += "'"  # two keys that differed in their secrets alone: both are kept
            redacted[name] = self.redact_tree(child)
        return redacted

    def _redact_tagged(self, members: dict[str, JSONValue]) -> JSONValue:
        ((tag, text),) = members.items()
        if tag == "$secret" or type(text) is not str:
            return members
        if tag == "$bytes":
            data = _decoded(text)
            return {tag: base64.b64encode(self.redact_bytes(data)).decode()}
        redacted = self.redact_text(text)
        return members if redacted == text else redacted


_BYTES_TAG = b'{"$bytes":"'
_NOT_CANONICAL: Final = object()


def _forms(text: str) -> tuple[str, ...]:
    """A text as it is, and as JSON writes it, with and without escapes for what is not ASCII."""
    return text, _escaped(text), json.dumps(text)[1:-1]


def _escaped(text: str) -> str:
    try:
        return orjson.dumps(text)[1:-1].decode()
    except TypeError:  # a lone surrogate: such a text never reaches JSON
        return text


def _canonical_tree(data: bytes) -> object:
    try:
        tree = parse(data)
        return tree if canonical(tree) == data else _NOT_CANONICAL
    except ValueRefusedError:
        return _NOT_CANONICAL


def _is_tagged(members: dict[str, JSONValue]) -> bool:
    return len(members) == 1 and (key := next(iter(members))).startswith("$") and not key.startswith("$$")


def _decoded(text: str | bytes) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


# --- shapes -----------------------------------------------------------------------------------------------------------

_LINE_END = rb"(?:[\r\n]|\\+[nr])(?:\s|\\+[nr])*"  # also as JSON text writes it


def _word(start: bytes, before: bytes = rb"[\w-]") -> bytes:
    """A pattern of this start where it begins a word; the letters of an escape in JSON text are no part of it."""
    begins = [b"(?<!%b%b)" % (before, start)]
    begins += [b"(?<=%b%b)" % (escape, start) for escape in (rb"\\[bfnrt]", rb"\\u[0-9a-fA-F]{4}")]
    return start + b"(?:" + b"|".join(begins) + b")"


_SHAPES: tuple[tuple[str, re.Pattern[bytes]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        (
            "pem_private_key",
            rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
            + (rb"(?:\s|\\+[nr])+(?:[A-Za-z-]+: [^\r\n\\]*" + _LINE_END + rb"){0,9}[A-Za-z0-9+/=]{32}"),
        ),
        # Not words with hyphens: one piece is long, and there is a digit.
        ("sk_key", _word(b"sk-") + rb"(?=[\w-]*[A-Za-z0-9]{16})(?=[\w-]*[0-9])[\w-]{20}"),
        ("aws_access_key", _word(b"AKIA", rb"[A-Za-z0-9]") + rb"[A-Z0-9]{16}(?![A-Za-z0-9])"),
        ("github_token", _word(b"gh[pousr]_", rb"\w") + rb"[A-Za-z0-9]{36}"),
        ("github_token", _word(b"github_pat_", rb"\w") + rb"\w{22}"),
        ("jwt", _word(b"eyJ") + rb"[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16}"),
        # Not the `user:pass@` of templates and redacted text: {pass}, $PASS, <pass>, ***, [secret …].
        ("url_credentials", rb"""://[^\s/?#:@"'\\]*:(?![{$<*\[%])[^\s/?#@"'\\]{3,}@[\w\[]"""),
    )
)
# All at once, without groups: every branch begins with a literal, so a clean payload is crossed in one quick pass.
_ANY_SHAPE = re.compile(b"|".join([re.escape(_BYTES_TAG), *(pattern.pattern for _, pattern in _SHAPES)]))
_RECORDED_BYTES = re.compile(re.escape(_BYTES_TAG) + rb"([A-Za-z0-9+/=]*)")


def find_secret_shape(text: str) -> str | None:
    """The name of the first detector that finds the shape of a secret in a text, or `None`.

    Detectors: `pem_private_key`, `sk_key`, `aws_access_key`, `github_token`, `jwt`, `url_credentials`.
    """
    return payload_secret_shape(text.encode("utf-8", "surrogatepass"))


def payload_secret_shape(data: bytes) -> str | None:
    """As `find_secret_shape`, for a payload's bytes; values that are recorded as bytes are looked into."""
    if _ANY_SHAPE.search(data) is None:
        return None
    for name, pattern in _SHAPES:
        if pattern.search(data):
            return name
    if _BYTES_TAG in data:
        for encoded in _RECORDED_BYTES.findall(data):
            if (found := payload_secret_shape(_decoded(encoded))) is not None:
                return found
    return None


_REST: Final = {
    "pem_private_key": rb'(?:[^"\\]|\\.)*',
    "url_credentials": rb"",
}
_WHOLE: Final = tuple(
    (name, re.compile(b"(?:" + pattern.pattern + b")" + _REST.get(name, rb"[\w.-]*"))) for name, pattern in _SHAPES
)


def _without_credentials(found: re.Match[bytes]) -> bytes:
    return b"://[redacted url_credentials]@" + found.group()[-1:]


def redact_shapes(data: bytes) -> bytes:
    """JSON bytes with each text that has the shape of a secret replaced by `[redacted NAME]`.

    Canonical JSON stays canonical. The same object comes back when nothing is found.
    """
    if _ANY_SHAPE.search(data) is None:
        return data
    redacted = data
    for name, pattern in _WHOLE:
        mark = b"[redacted " + name.encode() + b"]"
        if name == "url_credentials":
            redacted = pattern.sub(_without_credentials, redacted)
        else:
            redacted = pattern.sub(mark, redacted)
    if redacted == data:
        return data
    tree = _canonical_tree(data)
    return redacted if tree is _NOT_CANONICAL else canonical(parse(redacted))
