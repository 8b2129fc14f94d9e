"""The JSON schema of specs, with which editors complete and check. It is made from the keys that the reader knows."""

import json
from collections.abc import Mapping

from mlax_codegen.reading.keys import KEYS, TABLES, TOP, Key

__all__ = ["schema", "schema_text"]

_Json = dict[str, object]

_STRING: _Json = {"type": "string", "minLength": 1}
_TYPES: Mapping[str, _Json] = {
    "string": _STRING,
    "equations": _STRING,
    "strings": {"type": "array", "items": _STRING, "minItems": 1},
    "boolean": {"type": "boolean"},
    "number or string": {"type": ["number", "string"]},
    "default": {
        "type": ["number", "boolean", "string", "array"],
        "items": {"type": "number"},
        "minItems": 1,
    },
}


def schema() -> _Json:
    """Return the schema."""
    properties = {name: _key(key) for name, key in TOP.items()}
    properties |= {name: _table(name) for name in TABLES}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A spec of mlax-codegen",
        "description": "The equations of an optimizer, from which `mlax-codegen generate` writes a Python module.",
        "type": "object",
        "properties": properties,
        "required": [*_required(TOP), "step"],
        "additionalProperties": False,
    }


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _table(name: str) -> _Json:
    if name in {"symbols", "shapes"}:
        return {
            "description": TABLES[name],
            "type": "object",
            "additionalProperties": _STRING,
        }
    keys = KEYS[name]
    entry: _Json = {
        "type": "object",
        "properties": {key: _key(found) for key, found in keys.items()},
        "required": _required(keys),
        "additionalProperties": False,
    }
    if name in {"require", "step"}:
        return {"description": TABLES[name], "type": "array", "items": entry, "minItems": 1}
    return {"description": TABLES[name], "type": "object", "additionalProperties": entry}


def _required(keys: Mapping[str, Key]) -> list[str]:
    return [name for name, key in keys.items() if key.required]


def _key(key: Key) -> _Json:
    found: _Json = {"description": key.doc, **_TYPES[key.type]}
    if key.values:
        found["enum"] = list(key.values)
    if key.longest:
        found["maxLength"] = key.longest
    return found
