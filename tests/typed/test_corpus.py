"""Four type checkers see the mistakes in the corpus that its comments say, and report nothing else."""

import runpy
from pathlib import Path

import pytest

from tests.typed.checkers import CHECKERS, VERSIONS, Checker, Reports, Version
from tests.typed.corpus import FILES, disagreements, marks, right_programs
from tests.typed.expectations import Finding

pytestmark = pytest.mark.one_python


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("version", VERSIONS)
def test_checkers_see_what_the_comments_say(
    version: Version, checker: Checker, reports: Reports
) -> None:
    """All wrong lines but those marked as unseen, and no other line."""
    found = [
        f"{file.name}, {line}"
        for file in FILES
        for line in disagreements(
            file.read_text(), reports[checker, version].get(file, []), checker, version
        )
    ]
    if found:
        pytest.fail(f"Python {version}:\n" + "\n".join(found), pytrace=False)


def test_corpus_is_large() -> None:
    """At least 100 wrong lines and 60 right programs."""
    sources = [file.read_text() for file in FILES]
    assert sum(mark.wrong for source in sources for mark in marks(source).values()) >= 100
    assert sum(map(right_programs, sources)) >= 60


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_file_can_be_imported(file: Path) -> None:
    """What checkers accept at the top level is accepted at run time too."""
    runpy.run_path(str(file))


def test_each_difference_is_a_disagreement() -> None:
    """A mistake no longer seen, one seen in spite of its mark, and a report on a right line."""
    source = "a.b  # wrong\nc.d  # wrong: unseen by ty\ne.f\ng.h  # false alarm: ty\n"
    source += "i.j  # wrong: unseen by ty before 3.13\n"
    said = [Finding(number, "rule", "text") for number in (2, 3)]
    assert disagreements(source, said, "ty", "3.11") == [
        "line 1: ty reports nothing\n    a.b  # wrong",
        "line 2: ty reports rule: text\n    c.d  # wrong: unseen by ty",
        "line 3: ty reports rule: text\n    e.f",
        "line 4: ty reports nothing\n    g.h  # false alarm: ty",
    ]
    as_marked = [Finding(number, "rule", "text") for number in (1, 4)]
    assert disagreements(source, as_marked, "ty", "3.11") == []
    assert [line[:6] for line in disagreements(source, as_marked, "ty", "3.13")] == ["line 5"]
    assert [line[:6] for line in disagreements(source, as_marked, "mypy", "3.11")] == [
        "line 2",
        "line 4",
        "line 5",
    ]


@pytest.mark.parametrize(
    "comment",
    [
        "# wrong by ty",
        "# wrong: ty",
        "# wrong before 3.13",
        "# wrong: unseen by me",
        "# false alarm",
    ],
)
def test_what_cannot_be_read_is_refused(comment: str) -> None:
    """A misspelt comment would otherwise expect nothing, silently."""
    with pytest.raises(ValueError, match=r"line 2: not a"):
        marks(f"x = 1\ny = 2  {comment}\n")
