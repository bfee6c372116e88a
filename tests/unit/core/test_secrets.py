"""Secrets: references, the redactor, and the detectors of shapes.

No literal here has the full shape of a secret; they are put together at run time.
"""

from __future__ import annotations

import base64
import copy
import json
import pickle
import random
import string
import time
from collections.abc import Callable
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.canonical import canonical, parse
from perdure.core.errors import SecretError
from perdure.core.secrets import (
    MIN_SECRET_LENGTH,
    Redactor,
    Secret,
    find_secret_shape,
    payload_secret_shape,
    redact_shapes,
    resolve,
)

TOKEN = Secret("env:API_TOKEN")


def no_file(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def a_redactor(value: str, secret: Secret = TOKEN) -> Redactor:
    redactor = Redactor()
    redactor.declare(secret, value)
    return redactor


# --- references -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["env:API_TOKEN", "env:_x1", "file:/run/secrets/token", "file:secrets/a b"])
def test_a_secret_is_a_reference(reference: str) -> None:
    secret = Secret(reference)
    assert secret.reference == reference
    assert repr(secret) == f"Secret({reference!r})"
    assert str(secret) == secret.label == f"[secret {reference}]"


@pytest.mark.parametrize(
    "reference", ["env:", "file:", "env:1X", "env:A-B", "env:A B", "env:A\n", "vault:x", "hunter22"]
)
def test_what_is_no_reference_is_refused_without_being_shown(reference: str) -> None:
    with pytest.raises(SecretError) as caught:
        Secret(reference)
    assert len(reference) < 6 or reference not in f"{caught.value} {caught.value.hint} {caught.value.ids}"


def test_a_control_character_is_in_no_reference() -> None:
    with pytest.raises(SecretError):
        Secret("file:/a\nb")


def test_secrets_are_values_of_their_reference() -> None:
    assert Secret("env:A") == Secret("env:A") != Secret("env:B")
    assert len({Secret("env:A"), Secret("env:A"), Secret("env:B")}) == 2
    assert Secret("env:A") != "env:A"
    assert copy.deepcopy(TOKEN) == pickle.loads(pickle.dumps(TOKEN)) == TOKEN


def test_a_secret_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        TOKEN.reference = "env:OTHER"
    with pytest.raises(AttributeError):
        del TOKEN.reference


# --- resolving --------------------------------------------------------------------------------------------------------


def test_a_variable_is_looked_up_in_the_environment_given() -> None:
    assert resolve(TOKEN, MappingProxyType({"API_TOKEN": "s3cret-value\n"}), no_file) == "s3cret-value\n"


def test_a_file_is_read_by_the_reader_given_without_its_final_newline() -> None:
    contents = {"/run/a": "value one\n", "/run/b": "two\r\n", "/run/c": "line\nline\n\n"}
    read: Callable[[str], str] = contents.__getitem__
    assert resolve(Secret("file:/run/a"), {}, read) == "value one"
    assert resolve(Secret("file:/run/c"), {}, read) == "line\nline\n"
    with pytest.raises(SecretError, match="shorter"):
        resolve(Secret("file:/run/b"), {}, read)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(SecretError, match="API_TOKEN is not set") as caught:
        resolve(TOKEN, {}, no_file)
    assert caught.value.ids == {"secret": "env:API_TOKEN"}
    with pytest.raises(SecretError, match="/run/none cannot be read: No such file"):
        resolve(Secret("file:/run/none"), {}, no_file)


def test_an_unreadable_file_is_named_without_its_content() -> None:
    def read(path: str) -> str:
        return b"\xffsecret".decode()

    with pytest.raises(SecretError, match="cannot be read: UnicodeDecodeError") as caught:
        resolve(Secret("file:/run/bad"), {}, read)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("value", ["", "a", "abc"])
def test_a_value_too_short_to_be_redacted_is_refused(value: str) -> None:
    assert len(value) < MIN_SECRET_LENGTH
    with pytest.raises(SecretError, match="too short") as caught:
        resolve(TOKEN, {"API_TOKEN": value}, no_file)
    assert not value or f" {value} " not in str(caught.value)
    with pytest.raises(SecretError):
        Redactor().declare(TOKEN, value)


# --- the redactor -----------------------------------------------------------------------------------------------------


def test_without_declared_values_nothing_happens() -> None:
    redactor = Redactor()
    data, tree = b'{"a":"b"}', parse(b'{"a":["b"]}')
    assert not redactor
    assert redactor.redact_bytes(data) is data
    assert redactor.redact_tree(tree) is tree
    assert redactor.redact_text("text") == "text"


def test_a_declared_value_is_replaced_in_text() -> None:
    redactor = a_redactor("hunter22")
    assert redactor
    assert redactor.redact_text("is hunter22, xhunter22x") == "is [secret env:API_TOKEN], x[secret env:API_TOKEN]x"
    assert redactor.redact_text("hunter2") == "hunter2"


def test_a_value_that_contains_another_is_replaced_first() -> None:
    redactor = Redactor()
    redactor.declare(Secret("env:SHORT"), "abcd")
    redactor.declare(Secret("env:LONG"), "abcdefgh")
    redactor.declare(Secret("env:AGAIN"), "abcd")
    assert redactor.redact_text("abcdefgh abcd") == "[secret env:LONG] [secret env:SHORT]"


def test_a_value_is_found_in_its_json_form() -> None:
    value = 'p"a\\s\ns é☃/'
    redactor = a_redactor(value)
    for payload in (canonical({"k": value}), json.dumps({"k": value}).encode()):
        assert redactor.redact_bytes(payload).replace(b" ", b"") == b'{"k":"[secretenv:API_TOKEN]"}'
    inner = json.dumps({"inner": value})
    assert redactor.redact_text(inner) == '{"inner": "[secret env:API_TOKEN]"}'
    assert parse(redactor.redact_bytes(canonical({"said": inner}))) == {"said": '{"inner": "[secret env:API_TOKEN]"}'}


def test_a_label_keeps_json_whole() -> None:
    redactor = a_redactor("hunter22", Secret('file:/a"b\\c'))
    assert json.loads(redactor.redact_bytes(b'{"k": "x hunter22"}')) == {"k": 'x [secret file:/a"b\\c]'}


def test_other_bytes_are_redacted_too() -> None:
    assert a_redactor("hunter22").redact_bytes(b"\xffhunter22\x00") == b"\xff[secret env:API_TOKEN]\x00"


def test_keys_numbers_and_nested_values_are_redacted() -> None:
    redactor = a_redactor("12345678")
    tree = parse(b'{"12345678":1,"a":[12345678,{"b":"x12345678"},1.5,null,true],"c":912345678.5}')
    label = "[secret env:API_TOKEN]"
    assert redactor.redact_tree(tree) == {
        label: 1,
        "a": [label, {"b": "x" + label}, 1.5, None, True],
        "c": f"9{label}.5",
    }


@pytest.mark.parametrize("value", ["12345678", "true", "null", "[secret", "a,b:", "1,2,3", "false,"])
def test_canonical_json_stays_canonical_json(value: str) -> None:
    redactor = a_redactor(value)
    payload = canonical({"n": 12345678, "t": [True, None, False, 1, 2, 3], value: value, "a": "b"})
    redacted = redactor.redact_bytes(payload)
    assert canonical(parse(redacted)) == redacted


def test_keys_that_become_alike_are_both_kept() -> None:
    redactor = Redactor()
    redactor.declare(TOKEN, "aaaaaa")
    redactor.declare(Secret("env:OTHER"), "bbbbbb")
    redacted = redactor.redact_tree({"aaaaaa": 1, "[secret env:API_TOKEN]": 2, "bbbbbb": 3})
    assert isinstance(redacted, dict)
    assert sorted(str(value) for value in redacted.values()) == ["1", "2", "3"]


def test_recorded_bytes_are_redacted_inside() -> None:
    redactor = a_redactor("hunter22")
    payload = canonical({"blob": {"$bytes": base64.b64encode(b"-hunter22-").decode()}})
    redacted = parse(redactor.redact_bytes(payload))
    assert redacted == {"blob": {"$bytes": base64.b64encode(b"-[secret env:API_TOKEN]-").decode()}}
    clean = canonical({"blob": {"$bytes": "AAAA"}})
    assert redactor.redact_bytes(clean) == clean


def test_a_tagged_scalar_that_holds_a_value_becomes_its_label() -> None:
    redactor = a_redactor("12345678")
    assert redactor.redact_tree({"n": {"$int": "91234567890"}}) == {"n": "9[secret env:API_TOKEN]90"}
    assert redactor.redact_tree({"n": {"$int": "99999999999"}}) == {"n": {"$int": "99999999999"}}


def test_a_reference_is_no_value() -> None:
    redactor = a_redactor("API_TOKEN")
    assert redactor.redact_tree({"$secret": "env:API_TOKEN"}) == {"$secret": "env:API_TOKEN"}


def test_what_is_redacted_is_a_copy() -> None:
    tree = parse(b'{"a":["hunter22"]}')
    a_redactor("hunter22").redact_tree(tree)
    assert tree == {"a": ["hunter22"]}


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(codec="utf-8"), min_size=MIN_SECRET_LENGTH, max_size=12),
    st.recursive(st.text(max_size=5) | st.integers(-9, 9), lambda t: st.lists(t) | st.dictionaries(st.text(), t)),
)
def test_no_declared_value_survives(value: str, tree: object) -> None:
    redactor = a_redactor(value)
    payload = canonical([tree, value, {"k": f"a{value}b", value: 1, "nested": json.dumps([value])}])
    redacted = redactor.redact_bytes(payload)
    assert canonical(parse(redacted)) == redacted
    label = TOKEN.label.encode()
    rest = redacted.replace(label, b"")
    assert label in redacted
    assert value.encode() not in rest or value in TOKEN.label or len(set(value)) < 3


# --- shapes -----------------------------------------------------------------------------------------------------------

_random = random.Random(8785)


def letters(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "7" + "".join(_random.choices(alphabet, k=count - 1))


def pem(kind: str, separator: str = "\n") -> str:
    lines = [f"-----BEGIN {kind}-----", letters(64), letters(64), f"-----END {kind}-----"]
    return separator.join(lines)


def jwt(header: object, claims: object) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims))
    return ".".join([*parts, letters(43)])


SHAPES = [
    ("pem_private_key", pem("PRIVATE KEY")),
    ("pem_private_key", pem("RSA PRIVATE KEY")),
    ("pem_private_key", pem("OPENSSH PRIVATE KEY", "\r\n")),
    ("pem_private_key", pem("EC PRIVATE KEY", " ")),
    ("pem_private_key", pem("ENCRYPTED PRIVATE KEY", "\\n")),
    ("pem_private_key", pem("RSA PRIVATE KEY").replace("\n", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256,1\n\n", 1)),
    ("pem_private_key", pem("PGP PRIVATE KEY BLOCK").replace("\n", "\nVersion: 1\n\n", 1)),
    ("sk_key", "sk-" + letters(48)),
    ("sk_key", "sk-proj-" + letters(20) + "_" + letters(40) + "-" + letters(30)),
    ("sk_key", "sk-ant-api03-" + letters(90)),
    ("sk_key", "sk-" + letters(32, "0123456789abcdef")),
    ("aws_access_key", "AKIA" + letters(16, string.ascii_uppercase + string.digits)),
    ("github_token", "ghp_" + letters(36)),
    ("github_token", "gho_" + letters(36)),
    ("github_token", "ghs_" + letters(36)),
    ("github_token", "github_pat_" + letters(22) + "_" + letters(59)),
    ("jwt", jwt({"alg": "HS256", "typ": "JWT"}, {"sub": "1234567890"})),
    ("url_credentials", "postgres://" + "app:" + letters(12) + "@db.internal:5432/app"),
    ("url_credentials", "redis://" + ":" + letters(12) + "@10.0.0.1/0"),
    ("url_credentials", "https://" + "x-access-token:" + letters(12) + "@github.com/a/b.git"),
]


@pytest.mark.parametrize(("name", "secret"), SHAPES)
@pytest.mark.parametrize("around", ["{}", "key={}", "key: {}.", "({})", "a\n{}\nb", "a\t{}", '{{"k": "{}"}}', "é{}é"])
def test_the_shape_of_a_secret_is_found(name: str, secret: str, around: str) -> None:
    text = around.format(secret)
    assert find_secret_shape(text) == name
    assert payload_secret_shape(text.encode()) == name
    assert payload_secret_shape(canonical({"a": [1, text]})) == name
    assert payload_secret_shape(json.dumps(json.dumps([text])).encode()) == name


@pytest.mark.parametrize(("name", "secret"), SHAPES)
def test_the_shape_of_a_secret_is_found_in_recorded_bytes(name: str, secret: str) -> None:
    blob = base64.b64encode(b"\xff" + secret.encode()).decode()
    assert payload_secret_shape(canonical({"a": {"$bytes": blob}})) == name


ORDINARY = [
    "Choose a strong password and never share your API key, secret or token with anybody.",
    "We use sk-learn (scikit-learn) for the task-force, the desk-2024-plan-for-everyone and the risk-averse.",
    "sk-cube-grid-folding-animation-with-a-long-name is a CSS class, sk-7 is not a key.",
    "password=changeme token: none secret = '***' api_key=<your key>",
    "AKIA is the prefix of an AWS access key id; AKIAX is none, and neither is MAKIA0123456789ABCDEF.",
    "GitHub tokens begin with ghp_, gho_ or ghs_, fine-grained ones with github_pat_; high_priority, ghp_example.",
    "A JWT begins with eyJ, such as eyJhbGciOi...; the header eyJhbGciOiJIUzI1NiJ9 alone is none.",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo\n",
    "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo\n",
    "The file starts with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----.",
    "See https://example.org:8080/a/b?user=x&mail=me@example.org#part and http://[::1]:80/@x, mailto:me@example.org.",
    "ssh://git@github.com:22/perdure.git and git@github.com:perdure/perdure.git need no password here.",
    "postgres://user:{password}@host/db postgres://user:$PASSWORD@host/db postgres://<user>:<pass>@host x://a:***@host",
    "postgres://app:[secret env:DB_PASSWORD]@db/app",
    "The ratio is 3:4 @ noon; time://now: it was 12:30@Berlin, then 1://2:3.",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "0123456789abcdef" * 16,
    "uuid 6ba7b810-9dad-11d1-80b4-00c04fd430c8, mask-AKI, whisk-12345678901234567890, tusk-1a2b3c4d5e6f7a8b9c0d1e2f",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_raises_no_alarm(text: str) -> None:
    assert find_secret_shape(text) is None
    assert payload_secret_shape(canonical({"text": text})) is None
    assert payload_secret_shape(canonical({"blob": {"$bytes": base64.b64encode(text.encode()).decode()}})) is None


def test_random_bytes_raise_no_alarm() -> None:
    for size in (3_000, 60_000):
        blob = base64.b64encode(_random.randbytes(size)).decode()
        assert payload_secret_shape(canonical({"blob": blob, "tagged": {"$bytes": blob}})) is None


@pytest.mark.parametrize(
    "unit",
    [
        "sk-",
        " sk-a",
        "eyJ",
        " eyJaaaaaaaa.",
        "://",
        "://a:",
        "-----BEGIN ",
        "AKIA",
        "ghp_",
        "\\n",
        " ",
        "\n",
        "A: ",
        "A ",
    ],
)
def test_no_text_makes_the_detectors_slow(unit: str) -> None:
    size = 200_000
    started = time.perf_counter()
    payload_secret_shape((unit * size)[:size].encode())
    payload_secret_shape(b"-----BEGIN PRIVATE KEY-----\nA: " + (unit * size)[:size].encode())
    assert time.perf_counter() - started < 2  # quadratic behaviour takes minutes


def test_a_lone_surrogate_does_not_hide_a_shape() -> None:
    assert find_secret_shape("\ud800 ghp_" + letters(36)) == "github_token"


def test_broken_recorded_bytes_are_passed_over() -> None:
    assert payload_secret_shape(b'{"$bytes":"A"}') is None
    redactor = a_redactor("hunter22")
    assert redactor.redact_tree({"$bytes": "A"}) == {"$bytes": ""}


def test_shapes_are_redacted_within_json_and_the_rest_stays() -> None:
    data = canonical(
        {
            "a": "key sk-abcdefghijklmnop1234567890XYZ and ghp_" + "a" * 36 + " end",
            "b": "postgres://ada:secretpw@host/db",
            "c": "-----BEGIN PRIVATE KEY-----\n" + "MIIE" * 20 + "\n-----END PRIVATE KEY-----\n",
            "d": "ordinary sk-learn prose about a password",
        }
    )
    redacted = redact_shapes(data)
    assert parse(redacted) == {
        "a": "key [redacted sk_key] and [redacted github_token] end",
        "b": "postgres://[redacted url_credentials]@host/db",
        "c": "[redacted pem_private_key]",
        "d": "ordinary sk-learn prose about a password",
    }
    assert payload_secret_shape(redacted) is None
    assert canonical(parse(redacted)) == redacted
    clean = b'{"a":1}'
    assert redact_shapes(clean) is clean
