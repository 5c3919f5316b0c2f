"""Write the types of the client from the API's document.

Reads the document (`/openapi.json`) from standard input and prints `prepaid_client/types.py`. It
has a TypedDict for each schema that an operation of the client takes or returns. `make
client-types` runs it.
"""

from __future__ import annotations

import inspect
import json
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

OPERATIONS_FILE = Path(__file__).parent / "src/prepaid_client/operations.py"
HEADER = '''"""The bodies of requests and responses, by the names of their schemas.

Generated from the API's document by `make client-types`; do not edit. Amounts are exact: a number
without a fraction is an int, any other a Decimal.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

Number: TypeAlias = Decimal | int
'''
_PREFIX = "#/components/schemas/"
_LINE_LENGTH_MAX = 100
_PLAIN = {
    "string": "str",
    "integer": "int",
    "number": "Number",
    "boolean": "bool",
    "null": "None",
    "object": "dict[str, Any]",
    "array": "list[Any]",
}


def generate(document: Mapping[str, Any]) -> str:
    """Return the module's text: the same for the same document."""
    # By its path: importing the package would need the types.
    operations = runpy.run_path(str(OPERATIONS_FILE))["OPERATIONS"]
    schemas = document["components"]["schemas"]
    wanted = _reachable([*_bodies(document, operations)], schemas)
    if strange := [name for name in wanted if not name.isidentifier()]:
        raise ValueError(f"two schemas have one name: {strange}")
    return "\n\n".join([HEADER, *(_definition(name, schemas[name]) for name in sorted(wanted))])


def _bodies(document: Mapping[str, Any], operations: Sequence[Any]) -> Iterator[Any]:
    for operation in operations:
        found = document["paths"][operation.path][operation.method.lower()]
        contents = [found.get("requestBody", {}), *found["responses"].values()]
        for content in contents:
            for media in content.get("content", {}).values():
                yield media["schema"]


def _reachable(found: Any, schemas: Mapping[str, Any]) -> set[str]:
    """Return the names of the schemas that a value refers to, directly or not."""
    names: set[str] = set()
    waiting = [*_references(found)]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting += _references(schemas[name])
    return names


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "$ref":
                yield inner.removeprefix(_PREFIX)
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _definition(name: str, schema: Mapping[str, Any]) -> str:
    if "properties" not in schema:
        return _alias(name, _type(schema)) + _docstring(schema, "") + "\n"
    required = schema.get("required", ())
    lines = [f"class {name}(TypedDict):{_docstring(schema, '    ')}", ""]
    for field, kind in schema["properties"].items():
        shown = _type(kind)
        lines.append(f"    {field}: {shown if field in required else f'NotRequired[{shown}]'}")
    return "\n".join(lines) + "\n"


def _alias(name: str, shown: str) -> str:
    line = f"{name}: TypeAlias = {shown}"
    if len(line) <= _LINE_LENGTH_MAX or not shown.startswith("Literal["):
        return line
    values = shown.removeprefix("Literal[").removesuffix("]").split(", ")
    return f"{name}: TypeAlias = Literal[\n" + "".join(f"    {v},\n" for v in values) + "]"


def _docstring(schema: Mapping[str, Any], indent: str) -> str:
    text = inspect.cleandoc(str(schema.get("description", "")))
    if not text:
        return ""
    first, *others = [f"{indent}{line}".rstrip() for line in text.splitlines()]
    end = f'\n{indent}"""' if others else '"""'
    return "\n".join([f'\n{indent}"""{first.strip()}', *others]) + end


def _type(schema: Mapping[str, Any]) -> str:
    """Return the annotation of a schema."""
    if "$ref" in schema:
        return str(schema["$ref"].removeprefix(_PREFIX))
    if "enum" in schema:
        return f"Literal[{', '.join(json.dumps(value) for value in schema['enum'])}]"
    if "anyOf" in schema:
        return " | ".join(_type(kind) for kind in schema["anyOf"])
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    return " | ".join(_of_type(schema, str(name)) for name in kinds)


def _of_type(schema: Mapping[str, Any], kind: str) -> str:
    if kind == "array" and schema.get("items"):
        return f"list[{_type(schema['items'])}]"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"dict[str, {_type(schema['additionalProperties'])}]"
    return _PLAIN.get(kind, "Any")


if __name__ == "__main__":
    sys.stdout.write(generate(json.load(sys.stdin)))
