"""The harness itself can fail: wrong expectations are reported, each on its line and nothing else."""

import re

import pytest

from tests.typed.checkers import VERSIONS, Reports
from tests.typed.conftest import WRONG
from tests.typed.expectations import SNIPPET_CHECKERS, SnippetChecker, complaints, expected

pytestmark = pytest.mark.one_python

RETURN = {"pyright": "reportReturnType", "mypy": "return-value"}
ARGUMENT = {"pyright": "reportArgumentType", "mypy": "arg-type"}


def disagreements(checker: SnippetChecker) -> dict[str, str]:
    """Return the complaint due to each function of the wrong snippet."""
    result = {
        "unmarked_error": f"reports {RETURN[checker]}, not nothing",
        "marked_but_right": f"reports nothing, not {RETURN[checker]}",
        "marked_with_another_rule": f"reports {RETURN[checker]}, not {ARGUMENT[checker]}",
        "reveals_another_type": "reveals int, not str",
        "reveals_without_a_comment": "reveals int, not nothing",
        "marked_to_reveal_and_does_not": "reveals nothing, not int",
    }
    if checker == "mypy":
        result["marked_for_one_checker_only"] = "reports return-value, not nothing"
        result["reveals_another_type_to_one_checker"] = "reveals int, not str"
    return result


@pytest.mark.parametrize("checker", SNIPPET_CHECKERS)
def test_wrong_expectations_are_reported(checker: SnippetChecker, reports: Reports) -> None:
    """Each function but `right` holds one wrong expectation, and gets one complaint."""
    (file,) = WRONG
    source = file.read_text()
    function = ""
    functions = [
        function := match[1] if (match := re.match(r"def (\w+)", line)) else function
        for line in source.splitlines()
    ]
    reported: dict[str, str] = {}
    for complaint in complaints(source, reports[checker, VERSIONS[0]][file], checker):
        match = re.match(rf"line (\d+): {checker} (.*)", complaint)
        assert match
        name = functions[int(match[1]) - 1]
        assert name not in reported
        reported[name] = match[2]
    assert reported == disagreements(checker)


@pytest.mark.parametrize(
    "comment", ["# error reportX // x", "# error: reportX", "# reveal: int", "# reveals int"]
)
def test_what_cannot_be_read_is_refused(comment: str) -> None:
    """A misspelt comment would otherwise expect nothing, silently."""
    with pytest.raises(ValueError, match=r"line 2: not an expectation"):
        expected(f"x = 1\ny = 2  {comment}\n", "mypy")
