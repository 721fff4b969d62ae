"""What may never be recorded: which texts are secrets, and what stands in their place?

A secret is the value of a variable or a field whose name says so, whatever it is a value of in the environment of who
asks, the password of a URL, and what follows `Bearer`. What a run needs is hidden, and not lost: see
`merlin_es.vault`. Everything else is gone for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from merlin_es.errors import Refused

if TYPE_CHECKING:
    from merlin_es.commands import SubmitRun

REDACTED: Final = "[redacted]"
VALUE_MIN: Final = 6
"""A shorter value of a variable is not looked for in other texts: it may be any word."""

NAMES: Final = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|(?:API|ACCESS|PRIVATE|SIGNING|ENCRYPTION|ACCOUNT)_?KEY"
    r"|_KEY\Z|_PAT\Z|_PASS\Z|_PWD\Z|_AUTH\Z|AUTHORIZATION|COOKIE|CONNECTION_STRING",
    re.IGNORECASE,
)
_NO_SECRET: Final = re.compile(r"_(?:FILE|PATH|DIR|URL|NAME)S?\Z", re.IGNORECASE)
"""What ends so says where something is, not what it is."""
_PASSWORD: Final = re.compile(r"(://[^/@\s:'\"]*:)(?!\[redacted\]@)[^/@\s'\"]+(?=@)")
_BEARER: Final = re.compile(r"(\bbearer\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_HEADER: Final = re.compile(
    r"(\bauthorization:\s*(?:basic|token|digest|negotiate)\s+)[A-Za-z0-9._~+/=-]+", re.IGNORECASE
)
_ASSIGNED: Final = re.compile(
    r"(?<![\w-])(-{0,2}[A-Za-z][\w-]*)=(?![$`]|\[redacted\])('[^']*'|\"[^\"]*\"|[^\s;&|'\"]+)"
)
_FOLLOWS: Final = re.compile(r"(?<![\w-])(--[A-Za-z][\w-]*)(\s+)(?![-$`]|\[redacted\])([^\s;&|'\"]+)")
_OPTION: Final = re.compile(r"--?[A-Za-z][\w-]*")


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a run needs and no log may have: variables by their names, and words of the command by their places."""

    env: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.env or self.words)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is a secret here: `names` are globs of more names, `values` what must not be seen, by what it is called."""

    names: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)

    def knowing(self, environment: Mapping[str, str]) -> Rules:
        """Give the rules of who has also these variables."""
        more = {
            name: value
            for name, value in environment.items()
            if len(value) >= VALUE_MIN and value != REDACTED and self.is_secret(name)
        }
        return replace(self, values={**self.values, **more})

    def is_secret(self, name: str) -> bool:
        """Tell whether a name says that its value is a secret."""
        plain = name.lstrip("-").replace("-", "_")
        if any(fnmatchcase(plain.upper(), glob.upper()) for glob in self.names):
            return True
        return bool(NAMES.search(plain)) and not _NO_SECRET.search(plain)

    def clean(self, text: str) -> str:
        """Give a text without the secrets in it; a clean one stays as it is."""
        return self._cleaned(text)[0]

    def clean_fields(self, fields: Mapping[str, str]) -> dict[str, str]:
        """Do that with what belongs to names, some of which say that it is a secret."""
        return {name: REDACTED if self.is_secret(name) else self.clean(value) for name, value in fields.items()}

    def clean_words(self, words: Sequence[str]) -> tuple[str, ...]:
        """Do that with each word of a command; what follows an option that is named as a secret is one."""
        clean: list[str] = []
        before = ""
        for word in words:
            follows = bool(_OPTION.fullmatch(before)) and self.is_secret(before) and not word.startswith(("-", "$"))
            clean.append(REDACTED if follows else self.clean(word))
            before = word
        return tuple(clean)

    def clean_output(self, content: bytes) -> tuple[bytes, tuple[str, ...]]:
        """Do that with bytes of any kind; gives them, and what was taken out of them, by its names."""
        text = content.decode("latin-1")  # One character for each byte, whatever they mean.
        known = {name: value.encode().decode("latin-1") for name, value in self.values.items()}
        cleaned, found = replace(self, values=known)._cleaned(text)
        return (cleaned.encode("latin-1") if found else content), found

    def known_in(self, content: bytes) -> tuple[str, ...]:
        """Name the variables whose values stand in some bytes."""
        return tuple(name for name, value in sorted(self.values.items()) if value.encode() in content)

    def _cleaned(self, text: str) -> tuple[str, tuple[str, ...]]:
        found: dict[str, None] = {}
        for name, value in sorted(self.values.items(), key=lambda item: (-len(item[1]), item[0])):
            if value in text:
                text, found[f"/env/{name}"] = text.replace(value, REDACTED), None
        for what, pattern in (("url", _PASSWORD), ("bearer", _BEARER), ("authorization", _HEADER)):
            text, count = pattern.subn(rf"\g<1>{REDACTED}", text)
            if count:
                found[what] = None

        def hide(match: re.Match[str]) -> str:
            if not self.is_secret(match[1]):
                return match[0]
            found[match[1].lstrip("-")] = None
            return f"{match[1]}={REDACTED}"

        def hide_next(match: re.Match[str]) -> str:
            if not self.is_secret(match[1]):
                return match[0]
            found[match[1].lstrip("-")] = None
            return f"{match[1]}{match[2]}{REDACTED}"

        text = _ASSIGNED.sub(hide, text) if "=" in text else text
        return _FOLLOWS.sub(hide_next, text) if "--" in text else text, tuple(found)


NO_RULES: Final = Rules()


def redact(wish: SubmitRun, rules: Rules) -> tuple[SubmitRun, Hidden]:
    """Give a wish as it can be recorded, which names what was taken out of it, and what it needs all the same."""
    rules = rules.knowing(wish.env)
    env = {name: value for name, value in wish.env.items() if rules.is_secret(name) or rules.clean(value) != value}
    metadata = rules.clean_fields(wish.metadata)
    command = rules.clean_words(wish.command)
    words = {str(place): word for place, word in enumerate(wish.command) if command[place] != word}
    pointers = (
        *(pointer("env", name) for name in env),
        *(pointer("command", place) for place in words),
        *(pointer("metadata", name) for name, value in metadata.items() if value != wish.metadata[name]),
    )
    if not pointers:
        return wish, Hidden()
    shown = {name: REDACTED if name in env else value for name, value in wish.env.items()}
    clean = replace(wish, command=command, env=shown, metadata=metadata, redacted=pointers)
    return clean, Hidden(env, words)


def restored(wish: SubmitRun, redacted: Iterable[str], parent: str, hidden: Hidden | None) -> SubmitRun:
    """Give a wish that was made from what was recorded of another run with what had been hidden; raises Refused."""
    places = [place for place in redacted if not place.startswith("/metadata/")]
    if not places or (hidden is None and not _shows(wish)):
        return wish
    if hidden is None:
        raise Refused(
            f"{', '.join(places)} of {parent} was never recorded, and is forgotten since that run has ended: "
            "submit it again as a new run"
        )
    command = tuple(
        hidden.words.get(str(place), word) if REDACTED in word else word for place, word in enumerate(wish.command)
    )
    return replace(wish, command=command, env={**wish.env, **hidden.env})


def pointer(part: str, name: str) -> str:
    """Give the place of a value as RFC 6901 has it."""
    return f"/{part}/{name.replace('~', '~0').replace('/', '~1')}"


def needed(redacted: Iterable[str]) -> tuple[str, ...]:
    """Give those of the places that a run cannot do without."""
    return tuple(place for place in redacted if place.startswith(("/env/", "/command/")))


def _shows(wish: SubmitRun) -> bool:
    """Tell whether a wish has a gap that was a secret."""
    return REDACTED in wish.env.values() or any(REDACTED in word for word in wish.command)
