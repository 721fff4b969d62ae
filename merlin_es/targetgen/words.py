"""What is said about each task? Sentences only: no rule depends on them."""

from __future__ import annotations

from typing import Final

TITLES: Final = {
    "review_target_spec": "Review the capability spec",
    "derive_compile_view": "Derive the compile view",
    "derive_deployment_overlay": "Derive the deployment view",
    "implement_post_global_plugin": "Build the compiler plugin that recovers operations after global optimization",
    "implement_structured_text_isa": "Build the dialect and its export as a text ISA",
    "implement_runtime_hal": "Build the runtime driver",
    "implement_llvm_ukernel": "Teach LLVM and the microkernels the new instructions",
    "define_verification_ladder": "Settle how the target is verified",
}

ACTIONS: Final = {
    "review_target_spec": (
        "Compare each claim of the spec with the evidence, and note those that nothing supports.",
        "Settle every contradiction that the planner lists, in the spec and not in the code.",
    ),
    "derive_compile_view": (
        "Check that the flags of the compile view are those that the compiler lists in its help.",
        "Compare the view with the model file of the target where there is one, and explain each difference.",
    ),
    "derive_deployment_overlay": (
        "Check that the overlay belongs to this target, and that its recipe and its pins exist.",
        "Keep in the deployment view what depends on the place of deployment, and nothing else.",
    ),
    "implement_post_global_plugin": (
        "Register a plugin that finds the operations of the target once global optimization is over.",
        "Rewrite them into the dialect of the target, and leave everything else as it was.",
    ),
    "implement_structured_text_isa": (
        "Model instructions, queues and barriers of the target as operations of its dialect.",
        "Export a scheduled program as text that the assembler or the simulator takes.",
    ),
    "implement_runtime_hal": (
        "Bring up device, allocator, queue and executable cache, in that order, each with a test of its own.",
        "Map the semaphores of the runtime onto what the device has, and say where it has less.",
    ),
    "implement_llvm_ukernel": (
        "Add feature bits, intrinsics and patterns, each with a test that shows the instruction that comes out.",
        "Choose tile sizes and packing for the microkernels from the geometry of the spec.",
    ),
    "define_verification_ladder": (
        "For each stage that is ready, name the program that is run and what its result is compared with.",
        "For each stage that is planned, name what is missing and who has it.",
    ),
}

CHECKS: Final = {
    "review_target_spec": (
        "`merlin targetgen validate` accepts the spec and names no contradiction that nobody has explained.",
        "Every operation, type and tile of the spec is backed by a document that is named in the evidence.",
    ),
    "derive_compile_view": (
        "The compiler accepts every flag of the view.",
        "Deriving the view again gives the same bytes.",
    ),
    "derive_deployment_overlay": (
        "The deployment view names nothing that the capability spec already says.",
        "A recipe that people wrote is still whole.",
    ),
    "implement_post_global_plugin": (
        "The plugin is listed by the compiler and is off unless it is asked for.",
        "A program without operations for the target compiles to the same as before.",
    ),
    "implement_structured_text_isa": (
        "Each operation of the dialect parses, prints and verifies, and what is illegal is refused.",
        "An exported program is accepted by the assembler or the simulator.",
    ),
    "implement_runtime_hal": (
        "The device is listed by the runtime, and a missing device is an error that says so.",
        "One program gives the same result on the device as on the reference.",
    ),
    "implement_llvm_ukernel": (
        "Tests of code generation show the new instructions, and without the feature bits none of them.",
        "The microkernel gives the results of the portable one for every preferred tile.",
    ),
    "define_verification_ladder": (
        "Every stage of the ladder has a status, and what it rests on.",
        "No stage is called ready that cannot be run today.",
    ),
}

EVEN_ALIGNMENT: Final = "No instruction is emitted whose register group begins at an odd register."

EVIDENCE: Final = (
    ("docs/architecture/plugin_and_patch_model.md", "which changes go into a plugin, and which into a patch"),
    ("docs/reference/cli.md", "what the command line offers"),
    ("tools/compile.py", "how flags reach the compiler"),
)

EVIDENCE_OF: Final = {
    "derive_compile_view": (
        ("docs/how_to/add_compile_target.md", "how a compile target is added"),
        ("models", "the targets that are there already"),
    ),
    "derive_deployment_overlay": (
        ("docs/hardware_backends/overview.md", "which places of deployment there are"),
        ("build_tools/hardware", "the recipes that are there already"),
    ),
    "define_verification_ladder": (
        ("docs/hardware_backends/compatibility_matrix.md", "what is verified today on which backend"),
    ),
    "implement_post_global_plugin": (
        ("docs/how_to/add_compiler_dialect_plugin.md", "how a plugin with a dialect is added"),
        (
            "third_party/iree_bar/compiler/src/iree/compiler/PluginAPI/Client.h",
            "the interface between compiler and plugin",
        ),
    ),
    "implement_llvm_ukernel": (
        ("docs/dev_blog/2026-03-13-riscv-mmt4d-ukernel-workstream.md", "how the last microkernel was brought up"),
        (
            "third_party/iree_bar/compiler/src/iree/compiler/Codegen/ExternalInterfaces/CPUEncodingExternalModels.cpp",
            "where tile sizes are chosen",
        ),
    ),
    "implement_structured_text_isa": (
        ("compiler/src/merlin/Dialect/NPU/README.md", "a dialect with an exporter that is there already"),
        ("docs/dev_blog/2026-03-11-npu-dialect-e2e.md", "how it was brought up from end to end"),
    ),
    "implement_runtime_hal": (
        ("docs/how_to/add_runtime_hal_driver.md", "how a driver is added"),
        ("runtime/src/iree/hal/drivers/radiance/README.md", "a driver that is there already"),
    ),
}

REFERENCED: Final = "the spec refers to it"
RECIPE: Final = "the recipe of the overlay"

HANDOFF: Final = (
    "Say what was changed, file by file, and why.",
    "Say which checks were made, with what result, and which were not.",
    "Say what the next task has to know, and what is still open.",
)

HANDOFF_OF: Final = {
    "post_global_plugin": ("Name the dialect, the passes and the places where they join the compiler.",),
    "structured_text_isa": ("Name the dialect, the exporter and the form of the text it writes.",),
    "llvm_ukernel": ("Say how the changes of LLVM, of IREE and of the microkernels depend on each other.",),
    "runtime_hal": ("Say which part is device, transport, executable format and synchronization.",),
}
