"""`merlin schema`: what each verb prints for programs, as JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import Output, OutputOption, print_data, print_json, print_table

if TYPE_CHECKING:
    from merlin_es.cli.shapes import SchemaRow


def schema(
    verb: Annotated[
        list[str] | None, typer.Argument(metavar="[VERB]…", help="As it is typed: ray jobs list [default: all].")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Of each line that the verb prints with -o jsonl.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print the JSON Schema of what a verb prints with -o json, or list the verbs that have one.

    Draft 2020-12. Its $id ends with a version: fields may be added to one; it grows when one is renamed or dropped.
    """
    from merlin_es.cli.json_schema import id_of, schema_of
    from merlin_es.cli.shapes import SHAPES
    from merlin_es.errors import NotFound

    if not verb:
        rows: list[SchemaRow] = [
            {"verb": name, "version": version, "id": id_of(name)} for name, (version, _) in SHAPES.items()
        ]
        if output.is_data:
            print_data(output, rows)
            return
        print_table(["VERB", "VERSION", "SCHEMA"], [[row["verb"], str(row["version"]), row["id"]] for row in rows])
        return
    name = " ".join(verb).removeprefix("merlin ")
    if name not in SHAPES:
        raise NotFound(
            f"`merlin {name}` prints nothing for programs: `merlin schema` lists the verbs that do",
            name=name,
            among=SHAPES,
        )
    print_json(schema_of(name, of_a_line=lines))
