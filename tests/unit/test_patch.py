"""Does a JSON Patch say what changed, and does making the change lead there?"""

from __future__ import annotations

import copy
import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.patch import (
    Json,
    NoSuchPlace,
    Operation,
    apply,
    diff,
    is_same,
    keys_of,
    pointer_of,
    resolve,
)

leaves = st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.sampled_from(["", "a", "a/b", "~", "ä"])
keys = st.sampled_from(["", "a", "b", "a/b", "m~n", "~1", "0", "-", "ä"])
documents: st.SearchStrategy[Any] = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5), max_leaves=10
)


@settings(deadline=None, max_examples=200)
@given(before=documents, after=documents)
def test_making_the_change_leads_from_the_one_to_the_other_and_changes_neither(before: Json, after: Json) -> None:
    kept = copy.deepcopy(before)
    operations = diff(before, after)
    assert is_same(apply(before, operations), after)
    assert is_same(before, kept)
    assert not diff(apply(before, operations), after)


@settings(deadline=None, max_examples=50)
@given(document=documents)
def test_what_did_not_change_takes_no_step(document: Json) -> None:
    assert diff(document, copy.deepcopy(document)) == ()


@settings(deadline=None, max_examples=200)
@given(before=documents, after=documents)
def test_every_step_names_a_place_and_what_stands_there_then(before: Json, after: Json) -> None:
    for operation in diff(before, after):
        before = apply(before, [operation])
        if operation.op != "remove" and operation.path:
            assert is_same(resolve(before, operation.path), operation.value)
        assert json.loads(json.dumps(operation.as_json()))["op"] == operation.op


@settings(deadline=None)
@given(names=st.lists(keys))
def test_a_pointer_leads_through_the_keys_that_it_was_made_of(names: list[str]) -> None:
    assert keys_of(pointer_of(names)) == tuple(names)


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [
        ({"a": 1}, {"a": 2}, [Operation("replace", "/a", 2)]),
        ({"a": 1}, {"b": 1}, [Operation("remove", "/a"), Operation("add", "/b", 1)]),
        ({"a": {"b/c": 1}}, {"a": {"b/c": [1]}}, [Operation("replace", "/a/b~1c", [1])]),
        ([1, 2, 3], [1, 3], [Operation("remove", "/1")]),
        ([1, 3], [1, 2, 3], [Operation("add", "/1", 2)]),
        ([1, 2, 3, 4], [4], [Operation("remove", "/2"), Operation("remove", "/1"), Operation("remove", "/0")]),
        ([{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 3}], [Operation("replace", "/1/n", 3)]),
        (1, True, [Operation("replace", "", True)]),
        ({"a": 1}, {"a": 1.0}, [Operation("replace", "/a", 1.0)]),
        ({"a": None}, {}, [Operation("remove", "/a")]),
    ],
)
def test_the_steps_are_those_that_a_person_would_write(before: Json, after: Json, steps: list[Operation]) -> None:
    assert list(diff(before, after)) == steps
    assert is_same(apply(before, steps), after)


def test_a_dash_stands_for_the_place_behind_the_last_one() -> None:
    assert apply({"a": [1]}, [Operation("add", "/a/-", 2)]) == {"a": [1, 2]}


@pytest.mark.parametrize("path", ["/b", "/a/1", "/a/01", "/a/-", "/a/x", "/a/0/b", "/c/d", "a", "/a/²"])
@pytest.mark.parametrize("op", ["remove", "replace"])
def test_a_place_that_is_not_there_is_an_error_that_names_it(path: str, op: Literal["remove", "replace"]) -> None:
    with pytest.raises(NoSuchPlace, match=r"there is nothing at|is no JSON pointer"):
        apply({"a": [1]}, [Operation(op, path, 1)])
    with pytest.raises(NoSuchPlace):
        resolve({"a": [1]}, path)
