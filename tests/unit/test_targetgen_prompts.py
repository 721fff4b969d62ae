"""Does a prompt say what its layers say, in their order, and can a template do nothing but that?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merlin_es.errors import BundleInvalid, PromptInvalid, Usage
from merlin_es.targetgen import inputs, normalising
from merlin_es.targetgen.bundle import ExecutionTask, bundle_from_json, bundle_json
from merlin_es.targetgen.documents import dumps
from merlin_es.targetgen.fragments import HEADINGS, Fragment, fragment
from merlin_es.targetgen.preparing import Prepared, prepare, without_secrets
from merlin_es.targetgen.templates import render
from tests.targetgen_data import overlay, spec

DATA: dict[str, Any] = {"target": {"name": "t", "items": "its own"}, "features": ["+m", "+v"], "none": None, "n": 3}


def written(body: str, scope: str = "base", section: str = "goal", merge: str = "append", more: str = "") -> Fragment:
    return fragment(f"---\nsection: {section}\nmerge: {merge}\n{more}---\n{body}\n", f"{scope}/{body[:9]}.md", scope)


def prepared(*fragments: Fragment, backend: str = "manualllm", agent: str | None = None) -> Prepared:
    target = normalising.capability(spec(), "spec/capability.yaml")
    placed = normalising.deployment(overlay(), "spec/overlay.yaml")
    return prepare(target, placed, backend, agent, None, "/out/saturn_opu", fragments=fragments)


def task(made: Prepared, task_id: str) -> ExecutionTask:
    return next(each for each in made.bundle.tasks if each.id == task_id)


def goal(made: Prepared, task_id: str = "implement_llvm_ukernel") -> str:
    return next((each.content for each in task(made, task_id).prompt_bundle.sections if each.name == "goal"), "")


def test_layers_are_read_from_the_general_to_the_special() -> None:
    scopes = (
        "overlay:firesim",
        "target",
        "task:implement_llvm_ukernel",
        "phase:compiler",
        "family:llvm_ukernel",
        "base",
    )
    made = prepared(*(written(f"from {scope}", scope) for scope in scopes), written("no", "overlay:other"))
    assert goal(made).split("\n\n") == [f"from {scope}" for scope in reversed(scopes)]
    assert goal(made, "review_target_spec").split("\n\n") == ["from base", "from target", "from overlay:firesim"]


def test_append_prepend_and_replace_do_what_they_say_and_what_was_replaced_is_still_listed() -> None:
    made = prepared(written("gone"), written("one", merge="replace"), written("two"), written("zero", merge="prepend"))
    assert goal(made) == "zero\n\none\n\ntwo"
    prompt = task(made, "implement_llvm_ukernel").prompt_bundle
    assert [each.source for each in prompt.fragments] == [f"base/{name}.md" for name in ("gone", "one", "two", "zero")]
    assert prompt.sections[0].sources == ("base/zero.md", "base/one.md", "base/two.md")


def test_a_fragment_that_says_nothing_is_as_if_it_was_not_there() -> None:
    made = prepared(written("one"), written("{% if deployment.name == 'x' %}two{% endif %}", merge="replace"))
    assert goal(made) == "one"
    assert len(task(made, "implement_llvm_ukernel").prompt_bundle.fragments) == 1


@pytest.mark.parametrize(
    ("selector", "is_for"),
    [
        ("families: llvm_ukernel", True),
        ("families: [shared]", False),
        ("phases: [compiler, runtime]", True),
        ("task_ids: review_target_spec", False),
        ("targets: saturn_opu", True),
        ("deployment_profiles: firesim", True),
        ("deployment_profiles: board", False),
        ("prompt_backends: none", False),
        ("tool_profiles: generic_contextual_edit", True),
        ("integration_styles: [runtime_hal, llvm_ukernel]", True),
        ("families: []", True),
        ("phases: null", True),
    ],
)
def test_a_selector_keeps_a_fragment_to_its_tasks(selector: str, is_for: bool) -> None:
    assert goal(prepared(written("said", more=f"{selector}\n"))) == ("said" if is_for else "")


def test_without_an_overlay_no_fragment_for_one_is_read() -> None:
    target = normalising.capability(spec(), "c.yaml")
    said = written("said", more="deployment_profiles: firesim\n")
    made = prepare(target, None, "manualllm", None, None, "/out", fragments=[said])
    assert goal(made) == ""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("goal", "f.md: no prompt frontmatter"),
        ("---\nsection: goal\n", "f.md: no prompt frontmatter"),
        ("---\n- goal\n---\nx", "f.md: prompt frontmatter is not a mapping"),
        ("---\nsection: goal\nmerg: x\n---\nx", "f.md: unknown prompt frontmatter keys: merg"),
        ("---\nsection: aim\n---\nx", "f.md: section 'aim' is none of system, goal"),
        ("---\nsection: goal\nmerge: mix\n---\nx", "f.md: merge 'mix' is none of append, prepend, replace"),
        ("---\nsection: goal\nphases: 3\n---\nx", "f.md: phases is neither a text nor a list of texts"),
        ("---\nsection: goal\nsection: goal\n---\nx", "f.md: line 2: 'section' stands there twice"),
    ],
)
def test_a_file_that_is_no_fragment_is_refused_by_name(text: str, error: str) -> None:
    with pytest.raises(PromptInvalid) as refused:
        fragment(text, "f.md", "base")
    assert str(refused.value).startswith(error)


def test_a_template_prints_filters_chooses_and_loops() -> None:
    body = "{% for each in features %}{{ loop.index }}{{ each | upper }}{% if not loop.last %}, {% endif %}{% endfor %}"
    assert render(body, DATA, "f") == "1+M, 2+V"
    assert render("{{ features | comma_list }} {{ target.name }} {{ target.items }}", DATA, "f") == "+m, +v t its own"
    assert render("{{ features | bullet_list }}\n{{ features | code_list }}", DATA, "f") == "- +m\n- +v\n- `+m`\n- `+v`"
    assert render("{{ [] | comma_list }}{{ 'x' if n >= 3 and none is none }}", DATA, "f") == "nonex"
    assert render("{% for key, value in target | items %}{{ key }}={{ value }};{% endfor %}", DATA, "f")


@pytest.mark.parametrize(
    "body",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ target.__class__ }}",
        "{{ target['__class__'] }}",
        "{{ features.append('x') }}",
        "{{ features.__init__.__globals__ }}",
        "{{ self }}",
        "{{ self.__init__ }}",
        "{{ self | comma_list }}",
        "{% for a in features %}{{ loop }}{% endfor %}",
        "{{ cycler.__init__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ range(10) }}",
        "{{ ''.format }}",
        "{{ '%s' % target }}",
        "{{ '{0.__class__}' | format(target) }}",
        "{{ target | attr('__class__') }}",
        "{{ features | map(attribute='__class__') | list }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'x' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set x = 'a' %}{{ x }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a' ~ 'b' }}",
        "{% for a in features recursive %}{{ loop(features) }}{% endfor %}",
        "{% for a in 'text' %}x{% endfor %}",
        "{% for a in features %}{{ loop.__class__ }}{% endfor %}",
        "{{ nothing }}",
        "{{ target.nothing }}",
        "{% for a in nothing %}{% endfor %}",
        "{{ features | nothing }}",
        "{{ n is nothing }}",
        "{% if %}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{% for a in features %}" * 30 + "{% endfor %}" * 30,
    ],
    ids=lambda body: body[:50],
)
def test_a_template_reaches_nothing_but_its_data(body: str) -> None:
    with pytest.raises(PromptInvalid, match=r"^f\.md: "):
        render(body, DATA, "f.md")


def test_a_template_that_would_go_on_for_ever_is_ended() -> None:
    many = {"many": list(range(1000))}
    with pytest.raises(PromptInvalid, match="loops go round more than"):
        render("{% for a in many %}{% for b in many %}{% endfor %}{% endfor %}", many, "f")
    with pytest.raises(PromptInvalid, match="makes more than"):
        render("{% for a in many %}{{ many }}{% endfor %}", many, "f")
    assert render("{% for a in many %}{% endfor %}ok", many, "f") == "ok"  # What was used up is given back.


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="{}%|.[]()'_ abcfinors01~-", max_size=60))
def test_any_template_is_rendered_or_refused(body: str) -> None:
    try:
        assert isinstance(render("{{ a }}{% for b in c %}" + body, {"a": "x", "c": ["y"]}, "f.md"), str)
    except PromptInvalid as error:
        refusal = str(error)
        assert refusal.startswith("f.md: ")


@pytest.mark.parametrize("name", ["saturn_opu", "spacemit_x60", "gemmini", "nvidia_ada"])
def test_every_task_of_every_example_has_a_whole_prompt(name: str, tmp_path: Path) -> None:
    placed = inputs.example_overlay(name, overlay(name)["deployment"]["name"])
    read = inputs.read(inputs.example(name), placed)
    found = inputs.library(read, tmp_path)
    made = prepare(read.capability, read.overlay, "manualllm", None, None, "/out", fragments=found)
    for each in made.bundle.tasks:
        assert [section.name for section in each.prompt_bundle.sections] == list(HEADINGS)
        assert {"base", "target", f"family:{each.family}"} <= {found.scope for found in each.prompt_bundle.fragments}
        contract = each.prompt_bundle.sections[-1].content
        assert "info string is `diff`" in contract
        assert "```cpp path=path/to/file" in contract
        assert all(path in each.prompt for path in each.write_scope)
        assert str(Path(inputs.__file__).parent) not in dumps(bundle_json(made.bundle)), "no path of this machine"


def test_packets_and_briefs_are_numbered_and_say_what_they_are_about() -> None:
    made = prepared(written("Do it."), agent="ada")
    packets, briefs = dict(made.packets), dict(made.briefs)
    assert list(packets) == [f"prompt_{number:03}.md" for number in range(1, 6)]
    assert list(briefs)[3] == "04-implement_llvm_ukernel.md"
    assert packets["prompt_004.md"].splitlines()[0] == (
        "# TargetGen Task 004: Teach LLVM and the microkernels the new instructions"
    )
    assert [line.split(":")[0] for line in packets["prompt_004.md"].splitlines()[2:12]] == [
        f"- **{name}"
        for name in (
            "Target",
            "Task ID",
            "Phase",
            "Family",
            "Tool Profile",
            "Prompt Backend",
            "Execution Adapter",
            "Repo Root",
            "Expected Response File",
            "Agent",
        )
    ]
    assert packets["prompt_004.md"].endswith("\n\n## Goal\nDo it.\n")
    assert "- **Mutation Policy:** llvm_submodule_edit\n- **Prompt Packet:** prompt_004.md\n" in briefs[list(briefs)[3]]


def test_without_a_backend_there_are_briefs_and_no_packets() -> None:
    made = prepared(written("Do it."), backend="none")
    assert (len(made.briefs), dict(made.packets), made.bundle.prompts_dir) == (5, {}, None)
    assert all(each.prompt_packet is each.response_packet is None for each in made.bundle.tasks)


def test_a_bundle_is_the_same_after_its_way_through_json_and_its_bytes_are_the_same_each_time() -> None:
    made, again = prepared(written("Do it.")), prepared(written("Do it."))
    text = dumps(bundle_json(made.bundle))
    assert bundle_from_json(json.loads(text)) == made.bundle
    assert dumps(bundle_json(again.bundle)) == text
    later = {**json.loads(text), "of_a_later_release": 1}
    assert bundle_from_json(later) == made.bundle


def test_what_is_no_bundle_is_refused_with_the_place_that_is_wrong() -> None:
    document = bundle_json(prepared().bundle)
    del document["tasks"][1]["write_scope"]
    with pytest.raises(BundleInvalid, match=r"missing required field `write_scope` - at `\$\.tasks\[1\]`"):
        bundle_from_json(document)
    with pytest.raises(BundleInvalid, match="orchestrate"):
        bundle_from_json([])


def test_an_agent_is_asked_for_by_a_name_and_has_a_default_only_where_it_is_used() -> None:
    assert prepared(backend="provider").bundle.agent == "codex"
    assert prepared().bundle.agent is None
    for backend, agent in (("robot", None), ("provider", "../x")):
        with pytest.raises(Usage):
            prepared(backend=backend, agent=agent)


def test_nothing_that_sounds_like_a_secret_gets_into_a_bundle() -> None:
    config = {"model": "m", "api_key": "s", "Auth-Token": "s", "inner": [{"PASSWORD": "s", "url": "u"}], "n": 1}
    assert without_secrets(config) == {"model": "m", "inner": [{"url": "u"}], "n": 1}


def test_a_layer_that_leads_out_of_its_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("---\nsection: goal\n---\nkey")
    (tmp_path / "spec" / "prompts" / "target").mkdir(parents=True)
    (tmp_path / "spec" / "prompts" / "target" / "a.md").symlink_to(tmp_path / "secret")
    (tmp_path / "spec" / "capability.yaml").write_text(dumps(spec()))
    read = inputs.read(inputs.typed("spec/capability.yaml", tmp_path), None)
    with pytest.raises(PromptInvalid, match=r"^spec/prompts/target/a\.md: it leads out"):
        inputs.library(read, tmp_path)
