"""Does a glob mean the names that it says, and none outside?"""

from __future__ import annotations

import pytest

from merlin_es.errors import Usage
from merlin_es.globs import Globs


@pytest.mark.parametrize(
    ("pattern", "means", "not_means"),
    [
        ("*.json", ["a.json", ".json", "new\nline.json"], ["a/b.json", "a.jsonx", "a.JSON"]),
        ("logs/**", ["logs/a", "logs/b/c/d"], ["logs", "log/a", "x/logs/a"]),
        ("logs/", ["logs/a", "logs/b/c"], ["logs"]),
        ("**", ["a", "a/b/c"], []),
        ("**/*.md", ["a.md", "x/a.md", "x/y/a.md"], ["a.md/x"]),
        ("a/**/b/*.c", ["a/b/x.c", "a/1/b/x.c", "a/1/2/b/x.c", "a/b/b/x.c"], ["a/x.c", "a/1/x.c", "b/x.c"]),
        ("./r?.[ab]", ["r1.a", "r2.b"], ["r1.c", "r12.a", "r/.a"]),
        ("a*b", ["ab", "axxb"], ["a/b"]),
        ("[", ["["], ["a"]),
        ("-x", ["-x"], ["x"]),
        ("**/**/x", ["x", "a/x", "a/b/x"], ["x/a"]),
    ],
)
def test_a_glob_means_these_and_not_those(pattern: str, means: list[str], not_means: list[str]) -> None:
    assert [name for name in means + not_means if Globs([pattern]).match(name)] == means


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../x", "a/../b", "a/..", "", ".", "./", "//", "\0"])
def test_a_glob_that_leads_out_or_nowhere_is_refused(pattern: str) -> None:
    with pytest.raises(Usage, match="relative to the target directory"):
        Globs(["*.json", pattern])


def test_the_globs_that_meant_nothing_are_told() -> None:
    globs = Globs(["*.json", "a.*", "*.md"])
    assert globs.match("a.json")
    assert not globs.match("b.c")
    assert globs.unmatched() == ("*.md",)


def test_a_pattern_made_to_take_for_ever_does_not() -> None:
    assert not Globs(["**/" * 30 + "*a" * 60 + "*b"]).match("a/" * 30 + "a" * 250)
