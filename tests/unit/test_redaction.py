"""What is taken for a secret, what stands in its place, and does what is none stay as it is?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merlin_es.commands import SubmitRun
from merlin_es.errors import Refused
from merlin_es.redaction import REDACTED, Hidden, Rules, redact, restored

S = "hunter2-of-the-lab"


def wish(*command: str, env: dict[str, str] | None = None, metadata: dict[str, str] | None = None) -> SubmitRun:
    return SubmitRun("t-1", "t", "w", "s", command or ("true",), "/w", "/w/out", env=env or {}, metadata=metadata or {})


SECRET = (
    "HF_TOKEN", "token", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "DB_PASSWORD", "api-key", "SIGNING_KEY",
    "GIT_PASS", "X_AUTH", "SESSION_COOKIE", "GITHUB_PAT", "--auth-token", "azure_connection_string",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRET)
def test_a_name_that_says_so_is_one_of_a_secret(name: str) -> None:
    assert Rules().is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "HOME",
        "PATH",
        "KEY",
        "KEYBOARD",
        "MONKEY",
        "TOKEN_FILE",
        "RAY_AUTH_TOKEN_PATH",
        "board_key_name",
        "AUTHOR",
        "PASS",
    ],
)
def test_a_name_that_does_not_is_none(name: str) -> None:
    assert not Rules().is_secret(name)


def test_more_names_are_given_by_globs() -> None:
    assert Rules(("LAB_*", "pin")).is_secret("lab_door")
    assert Rules(("LAB_*", "pin")).is_secret("PIN")
    assert not Rules(("LAB_*", "pin")).is_secret("SPIN")


TEXTS = {
    f"curl https://ada:{S}@host/x": "curl https://ada:[redacted]@host/x",
    f"curl -H 'Authorization: Bearer {S}' host": "curl -H 'Authorization: Bearer [redacted]' host",
    "Authorization: Basic YWRhOmh1bnRlcjI=": "Authorization: Basic [redacted]",
    f"HF_TOKEN={S} make; echo done": "HF_TOKEN=[redacted] make; echo done",
    f"export DB_PASSWORD='{S} {S}'; run": "export DB_PASSWORD=[redacted]; run",
    f"--password={S}": "--password=[redacted]",
    f"agent --api-key {S} --model m": "agent --api-key [redacted] --model m",
}
PLAIN = (
    "make -j2 test", "git clone https://host/x.git", "a=b c=d", "HF_TOKEN=$HF_TOKEN make", "KEYS=1",
    "--token-file=/run/token", "the bearer of this", "http://[::1]:80/x", "x@y:z", "https://ada@host:80/x",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_text_is_taken_out_and_nothing_else(text: str) -> None:
    assert Rules().clean(text) == TEXTS[text]


@pytest.mark.parametrize("text", [*PLAIN, *TEXTS.values()])
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert Rules().clean(text) == text


def test_the_value_of_a_secret_variable_is_known_wherever_it_stands() -> None:
    rules = Rules().knowing({"HF_TOKEN": S, "SHELL": "/bin/sh", "PIN_TOKEN": "1234"})
    assert rules.clean(f"echo {S}/bin/sh 1234") == "echo [redacted]/bin/sh 1234", "four digits may be any word"


def test_a_wish_names_what_was_taken_out_and_keeps_it_apart() -> None:
    asked = wish(
        "curl", "--token", "abc", f"http://{S}/", "x", env={"HF_TOKEN": S, "A": "b"}, metadata={"api_key": "1"}
    )
    shown, hidden = redact(asked, Rules())
    assert shown.redacted == ("/env/HF_TOKEN", "/command/2", "/command/3", "/metadata/api_key")
    assert shown.command == ("curl", "--token", REDACTED, f"http://{REDACTED}/", "x")
    assert dict(shown.env) == {"HF_TOKEN": REDACTED, "A": "b"}
    assert dict(shown.metadata) == {"api_key": REDACTED}
    assert hidden == Hidden({"HF_TOKEN": S}, {"2": "abc", "3": f"http://{S}/"})
    assert redact(shown, Rules())[0].command == shown.command, "twice is once"


def test_a_wish_without_secrets_is_recorded_as_it_is() -> None:
    asked = wish("make", "test", env={"A": "b"}, metadata={"board": "x60"})
    assert redact(asked, Rules()) == (asked, Hidden())


def test_what_goes_on_from_a_run_gets_what_was_hidden_or_is_refused() -> None:
    asked = wish("curl", f"http://ada:{S}@h/", env={"HF_TOKEN": S})
    shown, hidden = redact(asked, Rules())
    again = restored(shown, shown.redacted, "run-1", hidden)
    assert (again.command, again.env) == (asked.command, asked.env)
    with pytest.raises(Refused, match=r"/env/HF_TOKEN, /command/1 of run-1 was never recorded.*submit it again"):
        restored(shown, shown.redacted, "run-1", None)
    assert restored(asked, (), "run-1", None) is asked


def test_output_of_any_bytes_is_cleaned_and_says_of_what() -> None:
    rules = Rules().knowing({"HF_TOKEN": "pässwörter"})
    output = b"\xff\x00 " + "pässwörter".encode() + b" \xfe Bearer abcdefgh API_KEY=q"
    cleaned, found = rules.clean_output(output)
    assert cleaned == b"\xff\x00 [redacted] \xfe Bearer [redacted] API_KEY=[redacted]"
    assert found == ("/env/HF_TOKEN", "bearer", "API_KEY")


@given(st.binary(max_size=60), st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_cleaning_twice_is_once_and_what_is_clean_keeps_its_bytes(content: bytes, text: str) -> None:
    rules = Rules().knowing({"A_TOKEN": S})
    for each in (text, f"A_TOKEN={text}", f"{text}://a:{text}@b", f"Bearer {text}"):
        once = rules.clean(each)
        assert rules.clean(once) == once
    once_more, found = rules.clean_output(content)
    assert found or once_more == content
    assert S not in rules.clean(text + S + text)
