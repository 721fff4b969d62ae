"""Which files would a target begin with, and where would they lie? Each is small, and right as far as it goes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from merlin_es.errors import SpecInvalid
from merlin_es.targetgen import scaffold_text as text
from merlin_es.targetgen.classification import needs_llvm
from merlin_es.targetgen.documents import as_yaml
from merlin_es.targetgen.names import lower, title
from merlin_es.targetgen.planning import Plan
from merlin_es.targetgen.tasks import IREE, LLVM, TaskNode, llvm_target, recipe_path
from merlin_es.targetgen.views import compile_view, deployment_view

SEPARATORS: Final = {".md": "<!-- {} -->", ".txt": "# {}", ".yaml": "# {}", ".yml": "# {}"}
"""How a file says where its next part comes from, by its suffix; code says it behind two slashes."""


@dataclass(frozen=True)
class ScaffoldFile:
    """A file at the place where it would lie in the repository."""

    repo_path: str
    category: str
    rationale: str
    task_ids: tuple[str, ...]
    body: str


def scaffold(plan: Plan, existing: Mapping[str, str]) -> tuple[ScaffoldFile, ...]:
    """Return the files that a target begins with, each path once.

    `existing` are the files that lie in the repository at those paths already: their text is kept. Raises SpecInvalid.
    """
    files: dict[str, ScaffoldFile] = {}
    for task in plan.tasks:
        for new in _files_of(task, plan, existing):
            files[new.repo_path] = _merged(files[new.repo_path], new) if new.repo_path in files else new
    _require_disjoint(files)
    return tuple(files.values())


def views_in_the_repository(plan: Plan) -> tuple[str, ...]:
    """Return the paths at which people may have written a file already."""
    recipe = (recipe_path(plan.capability),) if plan.capability.deployment else ()
    return (f"models/{plan.target}.yaml", *recipe)


def _files_of(task: TaskNode, plan: Plan, existing: Mapping[str, str]) -> Iterator[ScaffoldFile]:
    makers = {
        "derive_compile_view": _compile_view,
        "derive_deployment_overlay": _deployment_view,
        "implement_post_global_plugin": _plugin,
        "implement_structured_text_isa": _text_isa,
        "implement_runtime_hal": _driver,
        "implement_llvm_ukernel": _llvm,
    }
    if task.id in makers:
        for path, category, body in makers[task.id](task, plan):
            whole = _beside(existing[path], body) if path in existing else body
            yield ScaffoldFile(path, category, text.RATIONALES[category], (task.id,), whole)


Made = Iterator[tuple[str, str, str]]


def _compile_view(_task: TaskNode, plan: Plan) -> Made:
    view = as_yaml(compile_view(plan.capability, plan.classification.styles))
    yield (
        f"models/{plan.target}.yaml",
        "compile_view",
        text.view_header(plan.capability.capability_path, "models") + view,
    )


def _deployment_view(_task: TaskNode, plan: Plan) -> Made:
    if deployment := plan.capability.deployment:
        header = text.view_header(deployment.source_path, "hardware recipes")
        yield recipe_path(plan.capability), "deployment_view", header + as_yaml(deployment_view(deployment))


def _plugin(task: TaskNode, plan: Plan) -> Made:
    name, spelled = plan.target, title(plan.target)
    here, dialect = f"compiler/plugins/target/{spelled}", f"compiler/src/merlin/Dialect/{spelled}"
    yield f"{here}/CMakeLists.txt", "plugin_scaffold", text.plugin_cmake(name)
    yield f"{here}/PluginRegistration.cpp", "plugin_scaffold", text.plugin_registration(name)
    yield f"{here}/Options.h", "plugin_scaffold", text.options_header(name)
    yield f"{here}/Options.cpp", "plugin_scaffold", text.options_source(name)
    yield f"{dialect}/README.md", "dialect_scaffold", text.page(f"Dialect of {spelled}", task)
    yield f"{dialect}/Transforms/CMakeLists.txt", "dialect_scaffold", text.transforms_cmake(name, "Recovery")


def _text_isa(task: TaskNode, plan: Plan) -> Made:
    name, spelled = plan.target, title(plan.target)
    dialect, translation = f"compiler/src/merlin/Dialect/{spelled}", f"compiler/src/merlin/Translation/{spelled}"
    yield f"{dialect}/README.md", "dialect_scaffold", text.page(f"Dialect of {spelled}", task)
    yield f"{dialect}/IR/{spelled}Ops.td", "dialect_scaffold", text.operations_td(name)
    yield f"{dialect}/Transforms/CMakeLists.txt", "dialect_scaffold", text.transforms_cmake(name, "Scheduling")
    yield f"{translation}/CMakeLists.txt", "translation_scaffold", text.translation_cmake(name)


def _driver(task: TaskNode, plan: Plan) -> Made:
    name = plan.target
    here, category = f"runtime/src/iree/hal/drivers/{lower(name)}", "runtime_scaffold"
    yield f"{here}/README.md", category, text.page(f"Runtime driver of {title(name)}", task)
    yield f"{here}/api.h", category, text.driver_api(name)
    yield f"{here}/driver.c", category, text.driver_part(name, "driver: it lists devices and creates them")
    yield f"{here}/device.c", category, text.driver_part(name, "device: its allocator, its queue, its executables")
    yield f"{here}/registration/driver_module.c", category, text.driver_module(name)


def _llvm(task: TaskNode, plan: Plan) -> Made:
    name, base, category = plan.target, plan.capability.isa.base, "llvm_ukernel_scaffold"
    spelled, directory = title(name), llvm_target(base)
    prefix = "RISCVX" if base.startswith("riscv") else title(base)
    codegen, ukernel = f"{IREE}/compiler/src/iree/compiler/Codegen", f"{IREE}/runtime/src/iree/builtins/ukernel"
    yield f"{codegen}/{spelled}TargetGen.md", category, text.page(f"Code generation for {spelled}", task)
    yield f"{ukernel}/{lower(name)}_targetgen.md", category, text.page(f"Microkernels of {spelled}", task)
    if needs_llvm(plan.capability.isa.exposure):
        intrinsics = f"{LLVM}/llvm/include/llvm/IR/Intrinsics{prefix}{spelled}.td"
        instructions = f"{LLVM}/llvm/lib/Target/{directory}/{spelled}InstrInfo.td"
        yield intrinsics, category, text.intrinsics_td(name, directory)
        yield instructions, category, text.instructions_td(name, directory)


def _merged(first: ScaffoldFile, second: ScaffoldFile) -> ScaffoldFile:
    """Return one file of two tasks that holds what both have to say."""
    body = second.body
    if first.repo_path.endswith((".yaml", ".yml")):
        body = textwrap.indent(body, "# ", lambda _line: True)  # Two documents in one file would be neither.
    mark = _mark(first.repo_path, f"from {second.task_ids[0]}")
    reasons = dict.fromkeys((first.rationale, second.rationale))
    return replace(
        first,
        task_ids=(*first.task_ids, *second.task_ids),
        rationale=" ".join(reasons),
        body=f"{first.body.rstrip()}\n\n{mark}\n\n{body}",
    )


def _beside(existing: str, body: str) -> str:
    """Return what people wrote, and what we would have written behind it, where it changes nothing."""
    mark = f"# {text.PROPOSED}"
    kept = existing.partition(f"{mark}\n")[0].rstrip()
    return f"{kept}\n\n{mark}\n" + textwrap.indent(body, "# ", lambda _line: True).replace("# \n", "#\n")


def _mark(path: str, remark: str) -> str:
    return next((mark for suffix, mark in SEPARATORS.items() if path.endswith(suffix)), "// {}").format(remark)


def _require_disjoint(paths: Iterable[str]) -> None:
    """Refuse a file that would have to be a directory too, as a recipe `models` would."""
    taken = set(paths)
    for path in taken:
        parts = path.split("/")
        for parent in ("/".join(parts[:count]) for count in range(1, len(parts))):
            if parent in taken:
                raise SpecInvalid(
                    f"deployment.hardware_recipe: {parent} would be a file and hold {path}: "
                    "give the recipe another path"
                )
