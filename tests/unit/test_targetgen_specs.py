"""Is everything that is wrong with a spec said at once, and does nothing that anybody writes crash the planner?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merlin_es.errors import SpecInvalid
from merlin_es.targetgen import normalising
from merlin_es.targetgen.fragments import Fragment
from merlin_es.targetgen.inputs import EXAMPLES, example, library, read
from merlin_es.targetgen.preparing import prepare
from merlin_es.targetgen.scaffold import scaffold
from merlin_es.targetgen.yaml_text import DEPTH_MAX, SIZE_MAX, parse
from tests.targetgen_data import changed, overlay, planned, spec


def wrong(document: object) -> list[str]:
    """Return what is wrong with a spec."""
    with pytest.raises(SpecInvalid) as error:
        normalising.capability(document, "c.yaml")
    first, *lines = str(error.value).splitlines()
    assert first == "c.yaml failed validation:"
    return [line.removeprefix("- ") for line in lines]


def wrong_overlay(**changes: Any) -> list[str]:  # noqa: ANN401  whatever YAML has
    with pytest.raises(SpecInvalid) as error:
        normalising.deployment(overlay(**changes), "o.yaml")
    return [line.removeprefix("- ") for line in str(error.value).splitlines()[1:]]


def test_an_empty_document_lacks_everything_once() -> None:
    errors = wrong(None)
    assert len(errors) == 54
    assert errors[:3] == [f"root.{name}: expected a mapping" for name in ("target", "platform", "execution_model")]
    assert errors[11] == "root.schema_version: expected an integer"
    assert errors[-1] == "access.verification_gates: expected a list of strings"
    empties: tuple[object, ...] = ([], 0, "")
    for empty in empties:
        assert wrong(empty) == errors


def test_a_document_that_is_no_mapping_is_refused_as_a_whole() -> None:
    with pytest.raises(SpecInvalid, match=r"^c\.yaml: expected a YAML mapping at the document root$"):
        normalising.capability([1], "c.yaml")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"schema_version": True}, "root.schema_version: expected an integer"),
        ({"schema_version": 2}, "root.schema_version: expected 1, the version that is read here"),
        ({"target__name": ""}, "target.name: expected a non-empty string"),
        ({"execution_model__kind": 3}, "execution_model.kind: expected a non-empty string"),
        (
            {"execution_model__compiler_recovery_stage": "never"},
            (
                "execution_model.compiler_recovery_stage: expected one of "
                "['llvmcpu_codegen', 'post_global_optimization', 'runtime_only', 'text_isa_export']"
            ),
        ),
        ({"platform__environments": [""]}, "platform.environments: expected a list of strings"),
        ({"isa__state_model": None}, "isa.state_model.kind: expected a non-empty string"),
        (
            {"isa__register_constraints__accumulator_register_file": 3},
            "isa.register_constraints.accumulator_register_file: expected a string or null",
        ),
        ({"operations__compute": []}, "operations.compute: expected a non-empty list"),
        ({"operations__compute": ["matmul"]}, "operations.compute[0]: expected a mapping"),
        ({"geometry__vector": None}, "geometry.vector: expected a mapping"),
        ({"geometry__vector__vlen_bits": True}, "geometry.vector.vlen_bits: expected an integer"),
        ({"geometry__compute_array": []}, "geometry.compute_array: expected a mapping"),
        ({"geometry__compute_array__kind": 1}, "geometry.compute_array.kind: expected a string"),
        ({"geometry__preferred_tiles": [[]]}, "geometry.preferred_tiles: expected a list of integer tile lists"),
        ({"geometry__preferred_tiles": [[True]]}, "geometry.preferred_tiles: expected a list of integer tile lists"),
        ({"memory__spaces": {}}, "memory.spaces: expected a non-empty list"),
        ({"memory__spaces": ["dram"]}, "memory.spaces[0]: expected a mapping"),
        ({"memory__packing": None}, "memory.packing: expected a mapping"),
        ({"numeric__quantization": []}, "numeric.quantization: expected a mapping"),
        ({"runtime__driver": "vulkan"}, "runtime.driver: expected a mapping"),
        ({"runtime__driver__backend_id": 1}, "runtime.driver.backend_id: expected a string or null"),
        ({"runtime__synchronization": None}, "runtime.synchronization: expected a mapping"),
        ({"verification__rtl__available": 1}, "verification.rtl.available: expected a boolean"),
        ({"access__verification_gates": ["smoke"]}, "access.verification_gates: unexpected value 'smoke'"),
        ({"references": "docs"}, "references: expected a list of strings"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_contract(change: dict[str, Any], error: str) -> None:
    assert wrong(spec(**change)) == [error]


@pytest.mark.parametrize("key", ["chipyard", "runtime", "extra"])
def test_a_map_of_an_overlay_that_is_none_is_an_error_and_no_crash(key: str) -> None:
    assert wrong_overlay(**{f"deployment__{key}": None}) == [f"deployment.{key}: expected a mapping"]


def test_what_is_only_falsy_counts_as_no_packing() -> None:
    empties: tuple[object, ...] = ("", [])
    for empty in empties:
        assert normalising.capability(spec(memory__packing=empty), "c").memory.packing == {}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"targets": {}}, "root: unexpected key 'targets', did you mean 'target'?"),
        (
            {"isa__register_constraints__even_alignement_required": True},
            (
                "isa.register_constraints: unexpected key 'even_alignement_required', "
                "did you mean 'even_alignment_required'?"
            ),
        ),
        ({"geometry__vector__lanes": 4}, "geometry.vector: unexpected key 'lanes'"),
    ],
)
def test_a_key_without_a_meaning_is_an_error_and_names_what_was_perhaps_meant(
    change: dict[str, Any], error: str
) -> None:
    assert wrong(spec(**change)) == [error]


@pytest.mark.parametrize("name", ["../up", "/etc/x", "a/b", ".hidden", "a..b", "a b", "a\n", "x" * 129, "ä"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    for path in ("target__name", "isa__base"):
        (error,) = wrong(spec(**{path: name}))
        assert error.startswith(f"{path.replace('__', '.')}: expected a name")
    assert wrong_overlay(deployment__name=name)[0].startswith("deployment.name: expected a name")


@pytest.mark.parametrize("recipe", ["../r.yaml", "/r.yaml", "a/../../r.yaml", "a//b", ".git/hooks/x", "a\x00b", "./r"])
def test_a_recipe_outside_of_the_repository_is_refused(recipe: str) -> None:
    (error,) = wrong_overlay(deployment__hardware_recipe=recipe)
    assert error.startswith("deployment.hardware_recipe: expected a path inside the repository")


def test_a_credential_has_to_name_a_variable() -> None:
    assert wrong(spec(access__credential_requirements="my-token"))[0].startswith("access.credential_requirements:")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: 1\na: 2\n", "d.yaml: line 2: 'a' stands there twice"),
        ("b: {c: 1, c: 2}\n", "d.yaml: line 1: 'c' stands there twice"),
        ("a: !!python/object/apply:os.system [ls]\n", "d.yaml: line 1: the tag"),
        ("a: &x {}\nb:\n  <<: *x\n", "d.yaml: line 3: '<<' has no meaning here"),
        ("[" * (DEPTH_MAX + 1), f"d.yaml: line 1: nested more than {DEPTH_MAX} deep"),
        ("a: [1\nb", "d.yaml: line "),
        ("a: &x [*x]\n", "d.yaml: its aliases stand for more than"),
        ("? [1]\n: 2\n", "d.yaml: line 1: a key is a list or a mapping"),
        ("x" * (SIZE_MAX + 1), "d.yaml: more than"),
        ('a: "\\ud800"\n', "d.yaml: "),
        ("a: " + "1" * 5000, "d.yaml: it cannot be read as YAML"),
        ("a\x00b", "d.yaml: "),
    ],
)
def test_yaml_that_could_surprise_is_refused_with_its_line(text: str, error: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        parse(text, "d.yaml")
    assert str(refused.value).startswith(error)


def test_a_bomb_of_aliases_is_refused_before_anybody_writes_it_out() -> None:
    bomb = "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(9))
    with pytest.raises(SpecInvalid, match="aliases stand for more than"):
        parse(bomb, "d.yaml")


def test_a_few_aliases_and_dates_are_what_they_stand_for() -> None:
    assert parse("a: &x [1]\nb: *x\nc: 2026-11-25\n", "d") == {"a": [1], "b": [1], "c": "2026-11-25"}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../x", "none"]),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inside, max_size=3)
    ),
    max_leaves=6,
)


def paths(document: object, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything in a document."""
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [before, *(path for key, value in inside for path in paths(value, (*before, key)))]


def replaced(document: Any, path: tuple[Any, ...], value: object) -> Any:  # noqa: ANN401  whatever YAML has
    if not path:
        return value
    holder = document
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    return document


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(["saturn_opu", "gemmini", "nvidia_ada"]))
def test_any_value_anywhere_is_planned_to_the_end_or_refused(data: st.DataObject, name: str) -> None:
    document, deployment = spec(name), overlay(name)
    what = data.draw(st.sampled_from([document, deployment]))
    made = replaced(what, data.draw(st.sampled_from(paths(what))), data.draw(VALUES))
    document, deployment = (made, deployment) if what is document else (document, made)
    try:
        target = normalising.capability(document, "c.yaml")
        placed = normalising.deployment(deployment, "o.yaml")
        scaffolded = scaffold(planned(document, deployment), {})
    except SpecInvalid:
        return
    assert all(".." not in each.repo_path.split("/") and not each.repo_path.startswith("/") for each in scaffolded)
    assert all(text.endswith("\n") for text in planned(document, deployment).files().values())
    made_ready = prepare(target, placed, "manualllm", None, None, "/t", fragments=FRAGMENTS[name])
    assert len(made_ready.packets) == len(made_ready.briefs) == len(made_ready.bundle.tasks)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!|>?'\"#%@,\n 01.~<=\\", max_size=60) | st.text(max_size=40))
def test_any_text_is_a_document_or_refused(text: str) -> None:
    try:
        document = parse(text, "d.yaml")
        normalising.capability(document, "d.yaml")
    except SpecInvalid as error:
        refusal = str(error)
        assert refusal.startswith("d.yaml")


def test_each_example_is_right_and_without_contradictions() -> None:
    names = sorted(path.name for path in EXAMPLES.iterdir())
    assert {"gemmini", "nvidia_ada", "saturn_opu", "spacemit_x60"} <= set(names)
    for name in names:
        assert planned(spec(name)).notes == planned(spec(name), overlay(name)).notes == ()
        assert spec(name)["target"]["name"] == name


def _fragments(name: str) -> tuple[Fragment, ...]:
    return library(read(example(name), None), EXAMPLES)


FRAGMENTS = {name: _fragments(name) for name in ("saturn_opu", "gemmini", "nvidia_ada")}


def test_a_changed_copy_of_a_spec_is_what_the_tests_think_it_is() -> None:
    assert changed({"a": {"b": 1}}, {"a__b": ..., "c": 2}) == {"a": {}, "c": 2}
