"""Holds answers against the schemas of the daemon's OpenAPI document, as far as that one goes."""

from __future__ import annotations

import re
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
KNOWN = {
    "$ref",
    "additionalProperties",
    "default",
    "description",
    "enum",
    "items",
    "maximum",
    "minimum",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "type",
}


def is_of(value: Any, kinds: list[str]) -> bool:
    """Whether a value is of one of these types. True is no number here."""
    return any(
        isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        for kind in kinds
    )


def mistakes(document: dict[str, Any], schema: dict[str, Any], value: Any, at: str) -> list[str]:
    """What is wrong with a value. A field that the schema does not name is a mistake, too."""
    assert set(schema) <= KNOWN, f"{at}: the schema has {set(schema) - KNOWN}"
    if "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return mistakes(document, found, value, at)
    if "oneOf" in schema:
        tried = [mistakes(document, one, value, at) for one in schema["oneOf"]]
        return [] if tried.count([]) == 1 else [f"{at}: fits not one of {schema['oneOf']}: {value}"]
    kinds = schema.get("type", list(TYPES))
    if not is_of(value, [kinds] if isinstance(kinds, str) else kinds):
        return [f"{at}: {value!r} is not {kinds}"]
    wrong = []
    if "enum" in schema and value not in schema["enum"]:
        wrong.append(f"{at}: {value!r} is none of {schema['enum']}")
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        wrong.append(f"{at}: {value!r} does not match")
    if isinstance(value, list) and "items" in schema:
        for n, item in enumerate(value):
            wrong += mistakes(document, schema["items"], item, f"{at}[{n}]")
    if isinstance(value, dict) and "properties" in schema:
        wrong += [f"{at}: no {key}" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            if key in schema["properties"]:
                wrong += mistakes(document, schema["properties"][key], item, f"{at}.{key}")
            elif not schema.get("additionalProperties"):
                wrong.append(f"{at}: {key} is not in the document")
    elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        for key, item in value.items():
            wrong += mistakes(document, schema["additionalProperties"], item, f"{at}.{key}")
    return wrong
