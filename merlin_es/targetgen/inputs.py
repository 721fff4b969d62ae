"""What lies on disk that a plan is made from? Specs, overlays, prompt layers, and what people wrote before us."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from merlin_es.errors import NotFound, PromptInvalid, SpecInvalid, Usage
from merlin_es.targetgen import normalising
from merlin_es.targetgen.capability import Capability, Deployment
from merlin_es.targetgen.fragments import Fragment, fragment
from merlin_es.targetgen.generation import Snapshot
from merlin_es.targetgen.names import is_name
from merlin_es.targetgen.planning import Plan
from merlin_es.targetgen.yaml_text import SIZE_MAX, parse

_HERE: Final = Path(__file__).parent
_PACKAGE: Final = "merlin_es/targetgen"
EXAMPLES: Final = _HERE / "examples"
LIBRARY: Final = _HERE / "prompt_library"
FRAGMENTS_MAX: Final = 500
_SNAPSHOT: Final = ("capability", "overlay")
AGENTS: Final = "projects/mlirAgent/configs/agents"


@dataclass(frozen=True)
class Source:
    """A file, and the name that is recorded of it: as it was typed, or as it lies in this package."""

    path: Path
    name: str


@dataclass(frozen=True)
class Inputs:
    """A spec and perhaps an overlay, checked, with their texts and the directory that the spec lies in."""

    capability: Capability
    overlay: Deployment | None
    snapshot: Snapshot
    directory: Source


def typed(path: str, cwd: Path) -> Source:
    """Return the file that somebody typed; raises Usage."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Usage(f"the path {path!a} is not UTF-8, as all that is recorded must be: rename it") from None
    if not path or "\x00" in path:
        raise Usage(f"{path!r} is no path: give that of a file")
    return Source(cwd / path, path)


def example_names() -> list[str]:
    """Return the names of the specs that come with Merlin."""
    return sorted(path.parent.name for path in EXAMPLES.glob("*/capability.yaml"))


def example(name: str) -> Source:
    """Return the spec of an example; raises NotFound."""
    if name not in example_names():
        names = example_names()
        raise NotFound(f"there is no example {name!r}: give one of {', '.join(names)}", name=name, among=names)
    return Source(EXAMPLES / name / "capability.yaml", f"{_PACKAGE}/examples/{name}/capability.yaml")


def example_overlay(name: str, overlay: str) -> Source | None:
    """Return the overlay of that name that comes with an example."""
    path = EXAMPLES / name / "overlays" / f"{overlay}.yaml"
    if not is_name(overlay) or not path.is_file():
        return None
    return Source(path, f"{_PACKAGE}/examples/{name}/overlays/{overlay}.yaml")


def read(capability: Source, overlay: Source | None) -> Inputs:
    """Read and check a spec and an overlay; raises SpecInvalid and Usage."""
    spec = _text(capability)
    target = normalising.capability(parse(spec, capability.name), capability.name)
    deployment = text = None
    if overlay:
        text = _text(overlay)
        deployment = normalising.deployment(parse(text, overlay.name), overlay.name)
    directory = Source(capability.path.parent, str(Path(capability.name).parent))
    return Inputs(target, deployment, Snapshot(spec, text), directory)


def snapshot(directory: Path, overlay: Source | None = None) -> Inputs:
    """Read the spec and the overlay that a target directory was made from; raises Usage where there are none."""
    spec, kept = (Source(path, str(path)) for path in (directory / "inputs" / f"{name}.yaml" for name in _SNAPSHOT))
    if not spec.path.is_file():
        raise Usage(f"{directory} has no inputs/capability.yaml: run `merlin targetgen generate` there, or give a spec")
    return read(spec, overlay or (kept if kept.path.is_file() else None))


def library(inputs: Inputs, workspace: Path) -> tuple[Fragment, ...]:
    """Return every fragment that a prompt of this target could be made of; raises PromptInvalid."""
    found: list[Fragment] = []
    for path, scope, name in _places(inputs, workspace):
        if len(found) == FRAGMENTS_MAX:
            raise PromptInvalid(f"{name}: there are more than {FRAGMENTS_MAX} prompt files: remove some")
        try:
            text = _text(Source(path, name))
        except (Usage, SpecInvalid) as error:
            raise PromptInvalid(str(error)) from None
        found.append(fragment(text, name, scope))
    return tuple(found)


def existing(paths: Iterable[str], workspace: Path) -> Mapping[str, str]:
    """Return the texts of those files that people have in their workspace already."""
    top = Path(os.path.realpath(workspace))
    found = {}
    for path in paths:
        real = Path(os.path.realpath(top / path))
        if real.is_relative_to(top) and real.is_file():
            found[path] = _text(Source(real, path))
    return found


def named_paths(plan: Plan) -> tuple[str, ...]:
    """Return the paths of the repository that a spec and its overlay take to be there."""
    deployment = plan.capability.deployment
    model = f"models/{deployment.compile_target}.yaml" if deployment and deployment.compile_target else None
    recipe = deployment.hardware_recipe if deployment else None
    return tuple(dict.fromkeys((*plan.capability.references, *(path for path in (model, recipe) if path))))


def missing(paths: Iterable[str], workspace: Path) -> list[str]:
    """Return those paths that are not in the workspace."""
    return [path for path in paths if "\x00" in path or not os.path.lexists(workspace / path)]


def provider_config(agent: str, workspace: Path) -> Mapping[str, Any]:
    """Return how an agent is configured in this workspace, nothing when it is not; raises SpecInvalid."""
    path = workspace / AGENTS / f"{agent}.yaml"
    if not is_name(agent) or not path.is_file():
        return {}
    found = parse(_text(Source(path, f"{AGENTS}/{agent}.yaml")), str(path))
    if not isinstance(found, dict):
        raise SpecInvalid(f"{path}: expected a YAML mapping at the document root")
    return found


def _places(inputs: Inputs, workspace: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield path, scope and recorded name of every file of the prompt library."""
    yield from _files(LIBRARY / "base", "base", f"{_PACKAGE}/prompt_library/base")
    for kind, scope in (("families", "family"), ("phases", "phase"), ("tasks", "task")):
        for directory in sorted(path for path in (LIBRARY / kind).glob("*") if path.is_dir()):
            yield from _files(
                directory, f"{scope}:{directory.name}", f"{_PACKAGE}/prompt_library/{kind}/{directory.name}"
            )
    for path in sorted((LIBRARY / "tasks").glob("*.md")):
        yield path, f"task:{path.stem}", f"{_PACKAGE}/prompt_library/tasks/{path.name}"
    own = inputs.directory.path / "prompts"
    yield from _files(own / "target", "target", _name(own / "target", inputs, workspace))
    if inputs.overlay:
        layer = own / "overlays" / inputs.overlay.name
        yield from _files(layer, f"overlay:{inputs.overlay.name}", _name(layer, inputs, workspace))


def _files(directory: Path, scope: str, name: str) -> Iterator[tuple[Path, str, str]]:
    top = os.path.realpath(directory.parent)
    for path in sorted(directory.glob("*.md"), key=lambda path: path.name):
        if not Path(os.path.realpath(path)).is_relative_to(top):
            raise PromptInvalid(f"{name}/{path.name}: it leads out of its directory: put a copy of the file there")
        yield path, scope, f"{name}/{path.name}"


def _name(layer: Path, inputs: Inputs, workspace: Path) -> str:
    """Return how a layer beside the spec is recorded: from the workspace where it lies in it, else as it is."""
    directory = inputs.directory
    if directory.path.is_relative_to(_HERE):
        return f"{directory.name}/{layer.relative_to(directory.path)}"
    real, top = Path(os.path.realpath(layer)), Path(os.path.realpath(workspace))
    return str(real.relative_to(top) if real.is_relative_to(top) else real)


def _text(source: Source) -> str:
    """Return the text of a file that is one, and not too long."""
    try:
        if not stat.S_ISREG(source.path.stat().st_mode):
            raise Usage(f"{source.name} is no file: give the path of one")
        with source.path.open("rb") as file:
            content = file.read(SIZE_MAX + 1)
        if len(content) > SIZE_MAX:
            raise SpecInvalid(f"{source.name}: more than {SIZE_MAX // 1024} KiB, and no such file is that long")
        return content.decode()
    except UnicodeDecodeError as error:
        raise SpecInvalid(f"{source.name}: it is not UTF-8 (byte {error.start}): save it as that") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Usage(f"{source.name} cannot be read ({reason}): give the path of a file that can") from None
