"""The JSON schema says what the reader accepts, and is committed."""

import json
from pathlib import Path
from typing import Any

import pytest

import mlax_codegen
from mlax_codegen.cli import main
from mlax_codegen.reading.keys import KEYS, TABLES, TOP
from mlax_codegen.reading.mistakes import SpecError
from mlax_codegen.reading.schema import schema, schema_text
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.resources import built_in_specs

COMMITTED = Path(mlax_codegen.__file__).parents[1] / "spec.schema.json"
SPECS = [*built_in_specs(), *sorted((Path(__file__).parents[1] / "specs").glob("*.toml"))]


def complaints(value: Any, part: Any, where: str = "") -> list[str]:
    """Check a value against the words that our schema uses, as an editor would."""
    kinds = {"string": str, "boolean": bool, "number": (int, float), "array": list, "object": dict}
    allowed = [part["type"]] if isinstance(part["type"], str) else part["type"]
    if not any(isinstance(value, kinds[kind]) for kind in allowed):  # type: ignore[arg-type]
        return [f"{where}: not {allowed}"]
    found: list[str] = []
    if isinstance(value, dict):
        properties, more = part.get("properties", {}), part.get("additionalProperties", False)
        found += [f"{where}: no {name}" for name in part.get("required", []) if name not in value]
        for name, inner in value.items():
            if name in properties or more:
                found += complaints(inner, properties.get(name, more), f"{where}.{name}")
            else:
                found.append(f"{where}: unknown {name}")
    if isinstance(value, list):
        found += [
            c
            for i, item in enumerate(value)
            for c in complaints(item, part["items"], f"{where}[{i}]")
        ]
    if "enum" in part and value not in part["enum"]:
        found.append(f"{where}: none of {part['enum']}")
    return found


def test_the_committed_schema_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert COMMITTED.read_text() == capsys.readouterr().out == schema_text()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_good_specs_agree_with_it(path: Path) -> None:
    assert complaints(dict(read_spec(path).document.data), schema()) == []


def test_it_has_the_keys_that_the_reader_knows() -> None:
    properties: Any = schema()["properties"]
    assert list(properties) == [*TOP, *TABLES]
    for table, keys in KEYS.items():
        inner = properties[table].get("items") or properties[table]["additionalProperties"]
        assert list(inner["properties"]) == list(keys)
        assert inner["additionalProperties"] is False


@pytest.mark.parametrize("table", KEYS)
def test_the_reader_refuses_keys_outside_the_schema(table: str, tmp_path: Path) -> None:
    head = f"[[{table}]]" if table in {"require", "step"} else f"[{table}.probe]"
    path = tmp_path / "probe.toml"
    path.write_text(f"{head}\nunheard_of = 1\n")
    with pytest.raises(SpecError, match="unknown key 'unheard_of'"):
        read_spec(path)
    data = {table: [{"unheard_of": 1}] if head.startswith("[[") else {"probe": {"unheard_of": 1}}}
    assert any("unheard_of" in complaint for complaint in complaints(data, schema()))


def test_every_key_is_documented() -> None:
    assert all(key.doc.endswith(".") for keys in [TOP, *KEYS.values()] for key in keys.values())
    json.loads(schema_text())
