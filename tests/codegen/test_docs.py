"""docs/specs.md lists what the language has, as the language says it."""

from pathlib import Path

from mlax_codegen.language import FUNCTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "specs.md").read_text()


def test_every_function_is_listed() -> None:
    listed = [line for line in PAGE.splitlines() if line.startswith("| `") and "` | " in line]
    rows = [f"| `{function.signature}` | {function.doc} |" for function in FUNCTIONS.values()]
    assert [row for row in rows if row not in listed] == []
