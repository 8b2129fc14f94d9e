"""Every value of a TOML document is found where it stands."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlax_codegen.reading.document import parsed
from mlax_codegen.reading.positions import KeyPath, locate
from mlax_codegen.resources import built_in_specs

ODD = """\
# a comment = 1
"quoted key" = 'literal # no comment'   # but this is
dotted.key."of three" = "escaped \\" quote"
multi = '''
first
'second' '''''
basic = \"\"\"a \\\"\"\" b\"\"\"
numbers = [ 1, 2.5, # two
  [ 0x1F, 1_000 ], { inner = -1e-3 }, ]
date = 1979-05-27 07:32:00
inline = { a = { b = [true, false] }, c = "}" }
[table . spaced]
x = 1
[[many]]
y = "one"
[[many]]
y = "two"
[many.below]
z = 3
[[many.items]]
q = 4
"""


def values(data: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from values(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from values(value, (*path, index))
    else:
        yield path, data


@pytest.mark.parametrize(
    "text", [ODD, *(path.read_text() for path in built_in_specs())], ids=lambda text: text[:12]
)
def test_what_stands_there_is_the_value(text: str) -> None:
    places = locate(text)
    found = list(values(tomllib.loads(text)))
    assert len(found) > 10
    for path, value in found:
        place = places[path]
        literal = text[place.value : place.value_end]
        assert tomllib.loads(f"x = {literal}")["x"] == value
        if isinstance(path[-1], str):
            key = text[place.key : place.key_end]
            assert tomllib.loads(f"{key} = 1") == {path[-1]: 1}


def test_characters_of_a_string_have_places() -> None:
    document = parsed("odd.toml", ODD)
    document.inside(("multi",), 7, 13, "here")
    [mistake] = document.mistakes
    assert (mistake.line, mistake.column, mistake.length) == (6, 2, 6)


def test_characters_of_an_escaped_string_have_none() -> None:
    document = parsed("odd.toml", ODD)
    document.inside(("dotted", "key", "of three"), 9, 10, "somewhere in it")
    [mistake] = document.mistakes
    assert mistake.text[mistake.column - 1 :][: mistake.length] == '"escaped \\" quote"'


def test_missing_values_have_the_position_of_their_parent() -> None:
    document = parsed(str(Path("odd.toml")), ODD)
    document.at_key(("many", 1, "absent"), "not here")
    assert document.mistakes[0].text == "[[many]]"
    assert document.mistakes[0].line == 16
