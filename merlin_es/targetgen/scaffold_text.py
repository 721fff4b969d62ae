"""What stands in the files that a target begins with? Built line by line, so that no paste can spoil the indent."""

from __future__ import annotations

import re
from typing import Final

from merlin_es.targetgen.names import lower, macro, title
from merlin_es.targetgen.tasks import TaskNode

BANNER: Final = "Begun by `merlin targetgen generate`; from here on it belongs to whoever builds the target."
PROPOSED: Final = "what targetgen derives for this target; nothing above was changed"

RATIONALES: Final = {
    "compile_view": "The flags that the compiler needs for this target.",
    "deployment_view": "What depends on the place where the target is deployed.",
    "plugin_scaffold": "The plugin through which the compiler finds the target.",
    "dialect_scaffold": "The dialect that the operations of the target are recovered into.",
    "translation_scaffold": "The export of the dialect as text.",
    "runtime_scaffold": "The driver through which the runtime reaches the device.",
    "llvm_ukernel_scaffold": "The instructions in LLVM, and the microkernels that use them.",
}

_FOCUS: Final = {
    "post_global_plugin": (
        "Which operations are recovered, and at which point of the pipeline",
        "What is left to the default path, and why",
        "How the plugin is switched on",
    ),
    "structured_text_isa": (
        "Which instructions there are, and what each waits for",
        "How a schedule is written down",
        "What the exported text looks like",
    ),
    "runtime_hal": (
        "How the device is found and opened",
        "How work is submitted, and how it is known to be done",
        "In which format executables arrive",
    ),
    "llvm_ukernel": (
        "Which feature bits and intrinsics are new",
        "Which tile sizes are chosen, and how data is packed for them",
        "How the microkernel is selected",
    ),
}


def view_header(source: str, family: str) -> str:
    """Return the four lines that stand before a derived view."""
    return (
        f"# {BANNER}\n"
        f"# Derived from {_on_one_line(source)}: change that, and derive this again.\n"
        f"# It is one of the {family}; one that people wrote goes before it.\n"
        "# Nothing reads it from here.\n"
    )


def page(heading: str, task: TaskNode) -> str:
    """Return a page about what is to be built, for whoever builds it."""
    return _lines(
        f"# {heading}",
        "",
        BANNER,
        "",
        f"- Task: `{task.id}`",
        f"- Phase: `{task.phase}`",
        f"- Family: `{task.family}`",
        f"- Repository root: `{task.repo_root}`",
        "",
        "## To be described here",
        "",
        *(f"- {point}" for point in _FOCUS[task.family]),
        "",
        "## It is done when",
        "",
        *(f"- {check}" for check in task.acceptance_checks),
    )


def plugin_cmake(name: str) -> str:
    """Return the build file of a plugin."""
    return _lines(
        f"# {BANNER}",
        "",
        "iree_cc_library(",
        "  NAME",
        "    registration",
        "  HDRS",
        '    "Options.h"',
        "  SRCS",
        '    "Options.cpp"',
        '    "PluginRegistration.cpp"',
        "  DEPS",
        "    MLIRIR",
        "    iree::compiler::PluginAPI",
        "  PUBLIC",
        ")",
        "",
        "iree_compiler_register_plugin(",
        "  PLUGIN_ID",
        f"    {name.replace('_', '-')}",
        "  TARGET",
        "    ::registration",
        ")",
    )


def plugin_registration(name: str) -> str:
    """Return the source that makes a plugin known."""
    space = _identifier(name)
    return _lines(
        f"// {BANNER}",
        "",
        '#include "Options.h"',
        '#include "iree/compiler/PluginAPI/Client.h"',
        "",
        f"namespace mlir::merlin::{space} {{",
        "namespace {",
        "",
        "struct Session : iree_compiler::PluginSession<Session, Options> {",
        "  // Passes that recover operations of the target are added to the pipeline here.",
        "};",
        "",
        "}  // namespace",
        f"}}  // namespace mlir::merlin::{space}",
        "",
        f"IREE_DEFINE_COMPILER_OPTION_FLAGS(::mlir::merlin::{space}::Options);",
        "",
        f'extern "C" bool iree_register_compiler_plugin_{space}(',
        "    mlir::iree_compiler::PluginRegistrar *registrar) {",
        f'  registrar->registerPlugin<::mlir::merlin::{space}::Session>("{name.replace("_", "-")}");',
        "  return true;",
        "}",
    )


def options_header(name: str) -> str:
    """Return the declaration of a plugin's options."""
    space, guard = _identifier(name), f"MERLIN_TARGETGEN_{macro(name)}_OPTIONS_H_"
    return _lines(
        f"// {BANNER}",
        "",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        '#include "iree/compiler/Utils/OptionUtils.h"',
        "",
        f"namespace mlir::merlin::{space} {{",
        "",
        "/// What can be asked of the plugin on the command line of the compiler.",
        "struct Options {",
        "  /// Off unless it is asked for.",
        "  bool enable = false;",
        "",
        "  void bindOptions(iree_compiler::OptionsBinder &binder);",
        "};",
        "",
        f"}}  // namespace mlir::merlin::{space}",
        "",
        f"#endif  // {guard}",
    )


def options_source(name: str) -> str:
    """Return the definition of a plugin's options."""
    space, flag = _identifier(name), lower(name).replace("_", "-")
    return _lines(
        f"// {BANNER}",
        "",
        '#include "Options.h"',
        "",
        f"namespace mlir::merlin::{space} {{",
        "",
        "void Options::bindOptions(iree_compiler::OptionsBinder &binder) {",
        f'  static llvm::cl::OptionCategory category("{title(name)}");',
        f'  binder.opt<bool>("merlin-{flag}-enable", enable, llvm::cl::cat(category),',
        f'                   llvm::cl::desc("Recover operations for {title(name)}."));',
        "}",
        "",
        f"}}  // namespace mlir::merlin::{space}",
    )


def transforms_cmake(name: str, part: str) -> str:
    """Return the build file of passes over a dialect; `part` keeps those of two tasks apart."""
    return _lines(
        f"# {BANNER}",
        "",
        "iree_cc_library(",
        "  NAME",
        f"    {title(name)}{part}",
        "  DEPS",
        "    MLIRIR",
        "    MLIRPass",
        "  PUBLIC",
        ")",
    )


def translation_cmake(name: str) -> str:
    """Return the build file of an exporter."""
    return _lines(
        f"# {BANNER}",
        "",
        "iree_cc_library(",
        "  NAME",
        f"    {title(name)}Translation",
        "  DEPS",
        "    MLIRIR",
        "    MLIRTranslateLib",
        "  PUBLIC",
        ")",
    )


def operations_td(name: str) -> str:
    """Return the dialect, without operations."""
    spelled, guard = title(name), f"MERLIN_TARGETGEN_{macro(name)}_OPS_TD_"
    return _lines(
        f"// {BANNER}",
        "",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        'include "mlir/IR/OpBase.td"',
        "",
        f"def {_cased(spelled)}_Dialect : Dialect {{",
        f'  let name = "{_identifier(name)}";',
        f'  let cppNamespace = "::mlir::merlin::{_identifier(name)}";',
        "}",
        "",
        f"class {_cased(spelled)}_Op<string mnemonic, list<Trait> traits = []>",
        f"    : Op<{_cased(spelled)}_Dialect, mnemonic, traits>;",
        "",
        f"#endif  // {guard}",
    )


def driver_api(name: str) -> str:
    """Return the header of a runtime driver."""
    guard = f"MERLIN_TARGETGEN_{macro(name)}_API_H_"
    return _lines(
        f"// {BANNER}",
        "",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        '#include "iree/base/api.h"',
        '#include "iree/hal/api.h"',
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif  // __cplusplus",
        "",
        "// Makes the driver known to a registry.",
        f"IREE_API_EXPORT iree_status_t iree_hal_{_identifier(name)}_driver_module_register(",
        "    iree_hal_driver_registry_t* registry);",
        "",
        "#ifdef __cplusplus",
        '}  // extern "C"',
        "#endif  // __cplusplus",
        "",
        f"#endif  // {guard}",
    )


def driver_part(name: str, what: str) -> str:
    """Return a source of a runtime driver that has nothing in it but its purpose."""
    return _lines(f"// {BANNER}", f"// The {what}.", "", f'#include "iree/hal/drivers/{lower(name)}/api.h"')


def driver_module(name: str) -> str:
    """Return the source that makes a driver known, and says that it is not there yet."""
    return _lines(
        f"// {BANNER}",
        "",
        f'#include "iree/hal/drivers/{lower(name)}/api.h"',
        "",
        f"IREE_API_EXPORT iree_status_t iree_hal_{_identifier(name)}_driver_module_register(",
        "    iree_hal_driver_registry_t* registry) {",
        "  (void)registry;",
        "  return iree_make_status(IREE_STATUS_UNIMPLEMENTED,",
        f'                          "the driver of {title(name)} is not written yet");',
        "}",
    )


def intrinsics_td(name: str, target: str) -> str:
    """Return the file for intrinsics of LLVM, without any."""
    return _lines(
        f"// {BANNER}",
        "",
        f'let TargetPrefix = "{target.lower()}" in {{',
        f"// One `def int_{target.lower()}_{_identifier(name)}_<operation>` for each operation that is native.",
        f'}} // TargetPrefix = "{target.lower()}"',
    )


def instructions_td(name: str, target: str) -> str:
    """Return the file for instructions of LLVM, without any."""
    return _lines(
        f"// {BANNER}",
        "",
        f'let DecoderNamespace = "{_cased(title(name))}" in {{',
        f"// One `def` for each instruction, with the predicate of its feature bit of {target}.",
        f'}} // DecoderNamespace = "{_cased(title(name))}"',
    )


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _identifier(name: str) -> str:
    """Return a name as C has it."""
    plain = macro(name).lower()
    return plain if plain[0].isalpha() else f"t_{plain}"


def _cased(spelled: str) -> str:
    """Return a name as TableGen has it."""
    plain = re.sub(r"[^A-Za-z0-9]", "_", spelled)
    return plain if plain[0].isalpha() else f"T{plain}"


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
