"""Is a response understood as it was meant, and is all that is wrong with it said at once?"""

from __future__ import annotations

import re
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merlin_es.targetgen import responses, scopes
from merlin_es.targetgen.ports import Change, Reading

SCOPE = ("compiler/Saturn/", "runtime/api.h (adopted later)", "models/x.yaml")
EDIT = """\
--- a/compiler/Saturn/a.c
+++ b/compiler/Saturn/a.c
@@ -1,2 +1,2 @@
 int a;
-int b;
+int c;
"""


def read(text: str) -> Reading:
    return responses.read(text.encode(), SCOPE)


def fenced(content: str, info: str = "diff", fence: str = "```") -> str:
    return f"{fence}{info}\n{content}{fence}\n"


def test_a_diff_a_whole_file_and_prose_are_told_apart() -> None:
    text = "Done.\n\n" + fenced(EDIT) + fenced("int x;\n", "c path=runtime/api.h") + fenced("make\n", "sh")
    assert read(text) == Reading(
        "Done. ```diff --- a/compiler/Saturn/a.c +++ b/compiler/Saturn/a.c",
        (
            Change(
                "compiler/Saturn/a.c",
                "diff",
                "diff --git a/compiler/Saturn/a.c b/compiler/Saturn/a.c\n" + EDIT,
            ),
            Change("runtime/api.h", "whole", "int x;\n"),
        ),
    )


def test_prose_alone_proposes_nothing_and_is_no_error() -> None:
    assert read("Nothing to do.\n```sh\nls\n```\n") == Reading("Nothing to do. ```sh ls ```")


@pytest.mark.parametrize("text", ["", " \n\t\n", "\ufeff"])
def test_an_empty_response_is_an_error(text: str) -> None:
    reading = read(text)
    assert reading.summary == responses.EMPTY
    assert "the response is empty" in reading.errors[0]


def test_what_is_not_utf8_or_too_large_is_an_error_with_its_line() -> None:
    reading = responses.read(b"a\nb \xff\n", SCOPE)
    assert reading.errors[0].startswith("line 2: the response is not UTF-8")
    assert "too large" in responses.read(b"a" * (responses.RESPONSE_MAX + 1), SCOPE).summary


GIT = "diff --git a/models/x.yaml b/models/x.yaml\n"
NAMES = "--- a/models/x.yaml\n+++ b/models/x.yaml\n"
UMLAUT = '--- "a/compiler/Saturn/\\303\\244 b.c"\n+++ "b/compiler/Saturn/\\303\\244 b.c"\n'
PLAIN = "diff --git a/compiler/Saturn/ä b.c b/compiler/Saturn/ä b.c\n"
NO_END = "\\ No newline at end of file\n"


@pytest.mark.parametrize(
    ("diff", "parts"),
    [
        (f"{GIT}new file mode 100755\nindex 0000000..1234567\n", [GIT, "new file mode 100755\n"]),
        (f"{GIT}old mode 100644\nnew mode 100755\n", [GIT, "old mode 100644\nnew mode 100755\n"]),
        (
            f"--- /dev/null\n+++ b/models/x.yaml\t2026-01-01\n@@ -0,0 +1 @@\n+a\n{NO_END}",
            [GIT, "new file mode 100644\n--- /dev/null\n+++ b/models/x.yaml\n@@ -0,0 +1,1 @@\n+a\n", NO_END],
        ),
        (
            "--- a/models/x.yaml\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n--- b\n",
            [GIT, "deleted file mode 100644\n--- a/models/x.yaml\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n--- b\n"],
        ),
        (
            f"{UMLAUT}@@ -1 +1 @@ f()\n-a\n+b\n",
            [PLAIN, "--- a/compiler/Saturn/ä b.c\t\n+++ b/compiler/Saturn/ä b.c\t\n@@ -1,1 +1,1 @@ f()\n-a\n+b\n"],
        ),
        (
            "--- a/./models/x.yaml\n+++ b/./models/x.yaml\n@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n\n\n",
            [GIT, NAMES, "@@ -1,3 +1,3 @@\n a\n \n-b\n+c\n"],
        ),
    ],
    ids=["empty file", "mode", "new", "removed", "quoted name", "blank context"],
)
def test_a_diff_is_written_anew_as_git_has_it(diff: str, parts: list[str]) -> None:
    reading = read(fenced(diff))
    assert reading.errors == ()
    assert [change.text for change in reading.changes] == ["".join(parts)]


def test_several_files_in_one_diff_are_several_changes() -> None:
    more = EDIT.replace("a.c", "b.c")
    assert [change.path for change in read(fenced(EDIT + more)).changes] == [
        "compiler/Saturn/a.c",
        "compiler/Saturn/b.c",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (fenced(EDIT.replace("1,2 +1,2", "1,3 +1,3")), r"line 4: the hunk says 3 lines .* has 2 and 2"),
        (fenced(EDIT.replace("1,2 +1,2", "1,1 +1,1")), r"line 4: the hunk says 1 lines .* has more"),
        (fenced(EDIT.replace("-int b;\n+int c;\n", " int b;\n")), "line 4: the hunk changes nothing"),
        (fenced("some words\n" + EDIT), "line 2: this belongs to no hunk"),
        (fenced("@@ -1 +1 @@\n-a\n+b\n"), "line 2: this belongs to no hunk"),
        (fenced(""), "line 1: the diff is empty"),
        (fenced("--- a/models/x.yaml\n+++ b/models/x.yaml\n"), "line 2: .* has no hunk"),
        (fenced("--- models/x.yaml\n+++ models/x.yaml\n@@ -1 +1 @@\n-a\n+b\n"), "line 2: the file has no name"),
        (fenced(EDIT.replace("+++ b/compiler", "+++ b/compilers")), "line 2: the names differ"),
        (fenced("diff --git a/q b/p\nrename from q\nrename to p\n"), "line 3: a diff cannot rename"),
        (fenced("diff --git a/q b/p\ncopy from q\ncopy to p\n"), "line 3: a diff cannot copy"),
        (fenced("diff --git a/q b/q\nGIT binary patch\nliteral 3\nabc\n"), "line 3: a diff cannot hold binary"),
        (fenced("diff --git a/q b/q\nnew file mode 120000\n"), "line 3: only files of the modes"),
        (fenced("--- /dev/null\n+++ b/models/x.yaml\n@@ -1 +1 @@\n-a\n+b\n"), "line 2: a file that is made"),
        (fenced("--- a/models/x.yaml\n+++ /dev/null\n@@ -1 +1 @@\n-a\n+b\n"), "line 2: a file that is removed"),
        (fenced("a", "diff path=models/x.yaml").replace("a`", "a\n`"), "line 1: a diff names its files itself"),
        (fenced("a\n", "c path=models/x.yaml more"), "line 1: 'more' is not understood"),
        (fenced("a\n", "c path=models/x.yaml") + fenced(EDIT)[:-4], "line 4: the fence is never closed"),
        ("1. so:\n" + textwrap.indent(fenced(EDIT), "    "), "line 2: the fence is indented too far"),
        (fenced("a\n", "c path=models/x.yaml") * 2, "line 4: 'models/x.yaml' is changed in line 1 too"),
        (fenced("a\0\n", "c path=models/x.yaml"), "line 2: this is binary content"),
        (fenced("a\n", "c path=models/y.yaml"), "line 1: 'models/y.yaml' is not in the write scope .* runtime/api.h,"),
        (fenced("a\n", "c path=compiler/Saturn"), "line 1: 'compiler/Saturn' is not in the write scope"),
        (fenced("a\n", "c path=/etc/passwd"), "line 1: the path is absolute"),
        (fenced("a\n", "c path=~/x"), "line 1: the path is absolute"),
        (fenced("a\n", "c path=C:/x"), "line 1: the path is absolute"),
        (fenced("a\n", "c path=compiler/Saturn/../../x"), "line 1: the path leads upwards"),
        (fenced("a\n", "c path=compiler/Saturn/.GIT/hooks/x"), "line 1: the path leads into git's own files"),
        (fenced("a\n", "c path=compiler/Saturn//x"), "line 1: the path has an empty part"),
        (fenced("a\n", "c path=compiler/Saturn/x\x07"), "line 1: the path holds characters that nobody sees"),
        (fenced("a\n", "c path=compiler/Saturn/\u202ec.x"), "line 1: the path holds characters that nobody sees"),
        (fenced("a\n", "c path=compiler\\x"), "line 1: the path holds a quote or a backslash"),
        (fenced("a\n", "c path="), "line 1: the path is empty"),
        (fenced("a\n", "c path=compiler/Saturn/" + "a/" * 600 + "x"), "line 1: the path is too long"),
        (fenced("--- a/../x\n+++ b/../x\n@@ -1,9 +1 @@\n-a\n+b\n"), "line 2: the path leads upwards"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_nothing_is_proposed(text: str, error: str) -> None:
    reading = read(text)
    assert reading.changes == ()
    assert any(re.match(error, each) for each in reading.errors), reading.errors
    assert all(re.match(r"line \d+: .*[:;] ", each) for each in reading.errors), "it says what to do"


def test_all_that_is_wrong_is_said_in_the_order_of_the_lines() -> None:
    text = fenced(EDIT.replace("1,2 +1,2", "1,3 +1,3")) + fenced("a\n", "c path=/x") + fenced("b\n", "c path=../x")
    assert [each.partition(":")[0] for each in read(text).errors] == ["line 4", "line 9", "line 12"]
    many = read(fenced("a\n", "c path=/x") * 200)
    assert len(many.errors) == responses.ERRORS_MAX + 1
    assert many.errors[-1] == "and 150 more: mend these first"


def test_a_longer_fence_holds_shorter_ones_and_tildes_hold_backticks() -> None:
    inner = fenced("a\n", "c path=models/x.yaml")
    for fence in ("````", "~~~"):
        changes = read(fenced(inner, "md path=compiler/Saturn/README.md", fence)).changes
        assert changes == (Change("compiler/Saturn/README.md", "whole", inner),)


def test_a_fence_in_a_list_gives_its_indentation_back() -> None:
    text = "- so:\n" + textwrap.indent(fenced("a:\n  b\n", "yaml path=models/x.yaml"), "  ")
    assert read(text).changes == (Change("models/x.yaml", "whole", "a:\n  b\n"),)


def test_a_response_that_windows_saved_is_the_same_response() -> None:
    text = fenced(EDIT) + fenced("a\n", "c path=models/x.yaml")
    assert responses.read(text.replace("\n", "\r\n").encode(), SCOPE).changes == read(text).changes


def test_a_carriage_return_that_a_diff_is_about_is_kept() -> None:
    change = read(fenced(EDIT.replace("int b;\n", "int b;\r\n"))).changes[0]
    assert "-int b;\r\n+int c;\n" in change.text


def test_a_path_with_blanks_is_quoted() -> None:
    assert read(fenced("a\n", 'c path="compiler/Saturn/a b.c"')).changes[0].path == "compiler/Saturn/a b.c"


def test_the_summary_is_four_lines_and_240_characters() -> None:
    assert read("\n a \n\nb\nc\nd\ne\n").summary == "a b c d"
    assert read("x" * 500).summary == "x" * 240


@pytest.mark.parametrize(
    ("target", "entry", "wanted"),
    [
        ("saturn_opu_v128", "compiler/<Target>/", ("compiler/SaturnOpuV128/",)),
        ("npu-ucb", "drivers/<target>/ (new)", ("drivers/npu-ucb/", "drivers/npu_ucb/")),
        ("aBC-d_e", "x/<Target>", ("x/AbcDE",)),
    ],
)
def test_the_scope_names_the_target(target: str, entry: str, wanted: tuple[str, ...]) -> None:
    assert scopes.filled((entry,), target) == wanted


PIECES = """
```diff
```
````
~~~patch
~~~
```c path=models/x.yaml
--- a/models/x.yaml
+++ b/models/x.yaml
--- /dev/null
+++ /dev/null
@@ -1 +1 @@
@@ -0,0 +1,2 @@
@@ -999999999 +1 @@
-a
+b
 c
\\ No newline
diff --git a/models/x.yaml b/models/x.yaml
new file mode 100644
rename from x
GIT binary patch
prose
--- "a/\\3
\0
\r
"""


texts = st.lists(st.sampled_from(PIECES.splitlines(keepends=True))).map(lambda lines: "".join(lines).encode())


@settings(deadline=None, max_examples=400)
@given(st.one_of(st.binary(), texts, st.text().map(str.encode)))
def test_nothing_that_somebody_writes_crashes_the_reader_or_leaves_the_scope(content: bytes) -> None:
    reading = responses.read(content, SCOPE)
    assert reading == responses.read(content, SCOPE)
    assert len(reading.summary) <= 240
    assert not (reading.errors and reading.changes)
    for change in reading.changes:
        assert scopes.fault(change.path) is None
        assert scopes.is_within(change.path, SCOPE)
        if change.how == "diff":
            names = re.findall(
                r"^(?:---|\+\+\+) (?:[ab]/(.*?)\t?|/dev/null)$", change.text.split("\n@@")[0], re.MULTILINE
            )
            assert set(names) <= {change.path, ""}


def test_a_large_response_takes_no_longer_than_its_size() -> None:
    lines = "".join(f"+{number}\n" for number in range(200_000))
    text = fenced(f"--- /dev/null\n+++ b/models/x.yaml\n@@ -0,0 +1,200000 @@\n{lines}")
    assert read(text).errors == ()
    assert read("> " * 500_000).errors == ()
    assert read(" " * 500_000 + "`" * 500_000 + "\n" + "```" * 100_000).changes == ()
    assert read("```diff\n" * 100_000).changes == ()
