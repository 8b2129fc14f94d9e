"""Type checkers say about each snippet exactly what its comments ask for."""

import runpy
from pathlib import Path

import pytest

from tests.typed.checkers import VERSIONS, Reports
from tests.typed.conftest import SNIPPETS
from tests.typed.expectations import SNIPPET_CHECKERS, SnippetChecker, complaints

pytestmark = pytest.mark.one_python


@pytest.mark.parametrize("checker", SNIPPET_CHECKERS)
@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda path: path.stem)
def test_checkers_report_what_the_snippet_says(
    snippet: Path, checker: SnippetChecker, reports: Reports
) -> None:
    """Every marked line gets its diagnosis, every other line gets none."""
    wrong = complaints(snippet.read_text(), reports[checker, VERSIONS[0]].get(snippet, []), checker)
    if wrong:
        pytest.fail(f"{snippet.name}:\n" + "\n".join(wrong), pytrace=False)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda path: path.stem)
def test_snippet_can_be_imported(snippet: Path) -> None:
    """What checkers accept at the top level, its classes above all, is accepted at run time too."""
    runpy.run_path(str(snippet))
