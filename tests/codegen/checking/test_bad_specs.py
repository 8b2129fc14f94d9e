"""Each mistake in a spec gets its own message, at its own place."""

import pickle
from pathlib import Path

import pytest

from mlax_codegen.reading.mistakes import SpecError
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.writing.render import render_module
from tests.codegen.checking.bad_careful import CAREFUL
from tests.codegen.checking.bad_careful import CASES as OF_CAREFUL
from tests.codegen.checking.bad_constructs import CASES as RARE
from tests.codegen.checking.bad_constructs import RICH
from tests.codegen.checking.bad_labels import CASES as OF_LABELS
from tests.codegen.checking.bad_labels import LABELS
from tests.codegen.checking.bad_lists import CASES as OF_LISTS
from tests.codegen.checking.bad_lists import LISTS
from tests.codegen.checking.bad_matrices import CASES as OF_MATRICES
from tests.codegen.checking.bad_matrices import MATRICES
from tests.codegen.checking.bad_phases import CASES as OF_PHASES
from tests.codegen.checking.bad_phases import PHASES
from tests.codegen.checking.bad_specs import CASES, GOOD, Bad
from tests.codegen.checking.bad_starts import CASES as OF_STARTS
from tests.codegen.checking.bad_starts import STARTS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complaint(text: str | bytes) -> SpecError:
    """Return the error that a spec gets; the test fails if it gets none."""
    Path("probe.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SpecError) as caught:
        render_module(read_spec(Path("probe.toml")))
    return caught.value


@pytest.mark.usefixtures("folder")
def test_the_spec_without_a_mistake_is_accepted() -> None:
    Path("probe.toml").write_text(GOOD)
    assert "class Probe(Optimizer):" in render_module(read_spec(Path("probe.toml")))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_one_mistake_gets_one_message(case: Bad) -> None:
    expect(GOOD, case)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", RARE.values(), ids=list(RARE))
def test_one_mistake_in_a_rare_construct(case: Bad) -> None:
    expect(RICH, case)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", OF_PHASES.values(), ids=list(OF_PHASES))
def test_one_mistake_in_arguments_or_phases(case: Bad) -> None:
    expect(PHASES, case)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", OF_STARTS.values(), ids=list(OF_STARTS))
def test_one_mistake_in_how_a_slot_starts(case: Bad) -> None:
    expect(STARTS, case)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", OF_MATRICES.values(), ids=list(OF_MATRICES))
def test_one_mistake_with_matrices(case: Bad) -> None:
    expect(MATRICES, case)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", OF_CAREFUL.values(), ids=list(OF_CAREFUL))
def test_one_mistake_in_what_is_left_out(case: Bad) -> None:
    expect(CAREFUL, case)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", OF_LISTS.values(), ids=list(OF_LISTS))
def test_one_mistake_with_lists(case: Bad) -> None:
    expect(LISTS, case)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", OF_LABELS.values(), ids=list(OF_LABELS))
def test_one_mistake_with_labels(case: Bad) -> None:
    expect(LABELS, case)


def expect(good: str, case: Bad) -> None:
    """Make the one change, and compare the one mistake."""
    assert case.old in good
    [mistake] = complaint(good.replace(case.old, case.new, 1)).mistakes
    marked = mistake.text[mistake.column - 1 :][: mistake.length]
    found = (f"{mistake.line}:{mistake.column}", mistake.message, marked)
    assert found == (case.at, case.message, case.marked)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("scalars", "leaf", "unused"),
    [
        ("", "a = b2 * a + g\n", ["a"]),
        ("", "a = b2 * a + g\nb = b + a\n", ["a", "b"]),
        ("", "a = b2 * b\nb = g + a\n", ["a", "b"]),
        ("", "if nesterov:\n    a = a + g\nelse:\n    a = a - g\n", ["a"]),
        ("d = 0.5 * d\n", "", ["d"]),
        ("d = d + e\ne = e + 1\n", "", ["d", "e"]),
        ("d = d + t\n", "a = d * a + g\n", ["a", "d"]),
        ("", "a = b2 * a + g\ndirection = direction + a\n", []),
        ("", "b = b + a\na = g\ndirection = direction + b\n", []),
        ("d = d + e\ne = e + 1\nc = c + d\n", "", []),
        ("", "if nesterov:\n    direction = direction + a\na = g\n", []),
    ],
)
def test_what_the_state_holds_must_reach_an_update(
    scalars: str, leaf: str, unused: list[str]
) -> None:
    """What is only read to compute itself, or others that nothing reads, is kept for nothing."""
    slots = "".join(f"{s} = {{ init = 'zeros', doc = 'S.' }}\n" for s in "ab" if f"{s} = " in leaf)
    numbers = "".join(f"{s} = {{ init = 1.0, doc = 'S.' }}\n" for s in "de" if f"{s} = " in scalars)
    text = GOOD.replace("[symbols]", f"{slots}\n[scalars]\n{numbers}\n[symbols]")
    text = text.replace("b2**t\n", f"b2**t\n{scalars}").replace("update = -", f"{leaf}update = -")
    Path("probe.toml").write_text(text)
    if not unused:
        render_module(read_spec(Path("probe.toml")))
        return
    message = "is read, but no update or result is computed from it; use it or remove it"
    found = {mistake.message for mistake in complaint(text).mistakes}
    assert found == {f"{name!r} {message}" for name in unused}


@pytest.mark.usefixtures("folder")
def test_the_text_shows_file_line_and_caret() -> None:
    error = complaint(GOOD.replace("= momentum * velocity", "= momentun * velocity", 1))
    assert str(error) == (
        "probe.toml:33:16: unknown name 'momentun', did you mean 'momentum'?\n"
        "        velocity = momentun * velocity + direction\n"
        "                   ^^^^^^^^"
    )


@pytest.mark.usefixtures("folder")
def test_of_a_long_line_the_part_around_the_place_is_shown() -> None:
    text = GOOD.replace("b2 * v +", f"{'b2 * ' * 30}momentun + {'b2 * ' * 30} v +")
    _, shown, carets = str(complaint(text)).split("\n")
    assert len(shown) == 4 + 160
    assert shown[carets.index("^") :].startswith("momentun +")


@pytest.mark.usefixtures("folder")
def test_all_mistakes_are_reported_in_the_order_of_the_file() -> None:
    text = GOOD.replace("b2 * v +", "b3 * v +").replace("abs2(g)", "abs2(h0)")
    text = text.replace("1 - b2**t", "1 - b4**t")
    assert [mistake.line for mistake in complaint(text).mistakes] == [26, 29, 29]


@pytest.mark.usefixtures("folder")
def test_mistakes_of_different_kinds_are_reported_together() -> None:
    """A slot that may not be there, a shape, a default: each is found by another check."""
    text = GOOD.replace("if momentum is not None:", "if b2 > 0.5:").replace("abs2(g)", "mean(g, 3)")
    text = text.replace("nesterov = { default = false", "nesterov = { default = true")
    text = text.replace("default = 0.9, optional", "optional")
    assert [mistake.line for mistake in complaint(text).mistakes] == [14, 29, 33, 33]


_SLOT = "[slots]\nspare = { init = 'zeros', doc = 'Spare.' }\n"
PAIRS = {
    "misspelt name, unused slot": ("= momentum *", "= momentun *", "[slots]\n", _SLOT),
    "unknown function, unused slot": ("abs2(g)", "sqre(g)", "[slots]\n", _SLOT),
    "unknown function, unknown name": ("abs2(g)", "sqre(g)", "1 - b2**t", "1 - b3**t"),
    "misspelt name, shape": ("b2**t", "b2**tt", "/ root**power", "/ mean(root, 3)"),
    "misspelt name, complex square": ("b2**t", "b2**tt", "abs2(g)", "g**2"),
    "bounds, unknown name": (
        '"0 <= x < 1", doc',
        '"0 < x < 1 <", doc',
        "= g / root",
        "= gr / root",
    ),
    "full stop, unknown name": ("Look ahead.", "Look ahead", "= g / root", "= gr / root"),
    "unknown key, unknown name": ("optional = true", "optinal = true", "= g / root", "= gr / root"),
    "bracket, unknown name": ("abs2(g)", "abs2(g", "= g / root", "= gr / root"),
    "two that cannot be parsed": ("abs2(g)", "abs2(g", "1 - b2**t", "1 - b2 t"),
    "if of an array, division by 0": ("if momentum is", "if t > 1 and momentum is", "/ c)", "/ 0)"),
    "shape, complex square": ("/ c)", "/ mean(c, 1))", "abs2(g)", "g**2"),
    "symbol, unknown name": ("root = 'r'", "root = 'v'", "1 - b2**t", "1 - b3**t"),
}


HABITS = {
    "grad": "the gradient is `g`",
    "lr * g": "did you mean 'learning_rate'?",
    "value * g": "declare it under [arguments]",
    "square(g)": "write `abs2(x)`",
    "np.abs(g)": "write `abs(x)`",
    "g.sign()": "write `sign(g)`",
    "w.size * g": "the number of elements of a leaf is `count`",
    "g.shape[0] * g": "the shape of a leaf is `shape`",
    "total_count() * g": "write it without brackets",
    "where(g > 0 & g > 1, g, 0.0)": "write `and`",
    "where(~(g > 0), g, 0.0)": "write `not`",
    "b2^t * g": "write `**`",
    "where(t = 1, g, 0.0)": "to compare, write `==`",
    "[x for x in reversed(g)]": "read the items by their index",
    "last - g\nlast = g": "declare it in [slots]",
    "g\nw -= g": "assign `update = -...`",
    "g\nw = w - g": "assign `update = -...`",
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("value", HABITS)
def test_a_habit_gets_the_words_of_the_language(value: str) -> None:
    """What people write who come from Python or from a paper: one message, which says what to write."""
    found = complaint(GOOD.replace("direction = g", f"direction = {value}\ndirection = g")).mistakes
    found = [mistake for mistake in found if "is never read" not in mistake.message]
    assert len(found) == 1
    assert HABITS[value] in found[0].message


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
def test_two_mistakes_are_reported_at_once(pair: tuple[str, str, str, str]) -> None:
    """Neither hides the other, and nothing else is reported."""
    text = GOOD
    for old, new in (pair[:2], pair[2:]):
        assert old in text
        text = text.replace(old, new, 1)
    assert len(complaint(text).mistakes) == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "misspelt"),
    [
        ("-learning_rate", "-learning_rte"),
        ("root**power", "rooot**power"),
        ("learning_rate * direction", "learning_rate * directin"),
        ('when = "momentum', 'when = "momentun'),
    ],
)
def test_a_misspelt_name_counts_as_read(name: str, misspelt: str) -> None:
    """The name that was meant is not reported as never read."""
    [mistake] = complaint(GOOD.replace(name, misspelt)).mistakes
    assert mistake.message.startswith("unknown name")


@pytest.mark.usefixtures("folder")
def test_what_may_follow_from_a_mistake_is_not_reported_beside_it() -> None:
    text = GOOD.replace("-learning_rate *", "-speed *").replace("1 - b2**t", "1 - zzz**t", 1)
    text = text.replace("root**power", "v**power")
    messages = [mistake.message for mistake in complaint(text).mistakes]
    assert [message.partition(";")[0] for message in messages] == [
        "unknown name 'zzz'",
        "unknown name 'speed'",
    ]


@pytest.mark.usefixtures("folder")
def test_without_a_switch_none_is_suggested() -> None:
    start, _, _ = GOOD.partition("[hyperparameters]")
    text = f"{start}[[step]]\nleaf = 'update = -g * True'\n"
    [mistake] = complaint(text).mistakes
    assert mistake.message == (
        "True cannot be used in equations; declare a hyperparameter with default = false"
    )


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("new", "end"),
    [
        ("(g{0} > b2) * g", "write `where(condition, a, b)`"),
        ("where(nesterov and 1{0} > b2, g, 0.0)", "write `a if condition else b`"),
        ("sign(1{0}) * g", "write `1.0 * x`"),
        ("abs2(x=g{0})", "write `abs2(...)`"),
    ],
)
def test_a_long_expression_is_not_repeated_in_a_message(new: str, end: str) -> None:
    text = GOOD.replace("abs2(g)", new.format(" + 1" * 15))
    messages = [mistake.message for mistake in complaint(text).mistakes]
    assert all(len(message) < 200 for message in messages)
    assert messages[0].endswith(end)


@pytest.mark.usefixtures("folder")
def test_a_name_is_reported_once() -> None:
    text = GOOD.replace("direction = g / root**power\n", "")
    assert len([m for m in complaint(text).mistakes if "'direction'" in m.message]) == 1


@pytest.mark.usefixtures("folder")
def test_not_utf8() -> None:
    [mistake] = complaint(b'name = "probe"\nsummary = "\xff"\n').mistakes
    assert (mistake.line, mistake.column, mistake.message) == (
        2,
        12,
        "the file is not UTF-8: byte 0xff",
    )


@pytest.mark.usefixtures("folder")
def test_nothing_invisible_reaches_the_terminal() -> None:
    lines = str(complaint(GOOD.replace("Step size.", "Step \u202esize.\u200b"))).split("\n")
    assert "Step \ufffdsize.\ufffd" in lines[1]
    assert all(line.isprintable() for line in lines)


@pytest.mark.usefixtures("folder")
def test_byte_order_mark() -> None:
    [mistake] = complaint("\ufeff" + GOOD).mistakes
    expected = "the file begins with a byte order mark; save it as UTF-8 without one"
    assert mistake.message == expected


@pytest.mark.usefixtures("folder")
def test_empty_file_names_what_is_missing() -> None:
    messages = {mistake.message for mistake in complaint("").mistakes}
    assert messages == {
        "'name' is missing",
        "'summary' is missing",
        "'references' is missing",
        "[[step]] is missing",
    }


@pytest.mark.usefixtures("folder")
def test_far_too_long() -> None:
    [mistake] = complaint(GOOD + "#" * 200_000).mistakes
    assert mistake.message == "the file is longer than 200,000 characters; a spec is about a page"


@pytest.mark.usefixtures("folder")
def test_too_many_options() -> None:
    names = [f"n{i}" for i in range(13)]
    flags = "\n".join(f'{name} = {{ default = false, doc = "Switch." }}' for name in names)
    uses = "\n".join(f"if {name}:\n    direction = direction + 1" for name in names)
    text = GOOD.replace("[[require]]", f"{flags}\n[[require]]")
    [mistake] = complaint(text.replace("update = -", f"{uses}\nupdate = -")).mistakes
    assert mistake.message == "more than 4,096 combinations of options; split the spec"


def test_a_file_that_cannot_be_opened(folder: Path) -> None:
    """There is no line to show."""
    for path, reason in (
        (folder / "absent.toml", "No such file or directory"),
        (folder, "Is a directory"),
    ):
        with pytest.raises(SpecError) as caught:
            read_spec(path)
        assert str(caught.value) == f"{path}: cannot read the spec: {reason}"


@pytest.mark.usefixtures("folder")
def test_windows_line_ends_read_alike() -> None:
    text = GOOD.replace("b2 * v +", "b3 * v +")
    [windows] = complaint(text.replace("\n", "\r\n")).mistakes
    [unix] = complaint(text).mistakes
    assert windows == unix


@pytest.mark.usefixtures("folder")
def test_mistakes_survive_pickling() -> None:
    error = complaint(GOOD.replace("b2 * v +", "b3 * v +"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
