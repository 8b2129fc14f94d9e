"""The snippets, and one run of the checkers that all typed tests share."""

import pickle
from pathlib import Path

import pytest

from tests.once import once
from tests.typed.checkers import Findings, run_all
from tests.typed.expectations import Checker

HERE = Path(__file__).parent
SNIPPETS = sorted((HERE / "snippets").glob("*.py"))
WRONG = sorted((HERE / "wrong").glob("*.py"))


@pytest.fixture(scope="session")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[Checker, Findings]:
    """What both checkers say about every snippet."""

    def run(folder: Path) -> None:
        (folder / "findings").write_bytes(pickle.dumps(run_all([*SNIPPETS, *WRONG])))

    folder = once(tmp_path_factory, "typed", run)
    result: dict[Checker, Findings] = pickle.loads((folder / "findings").read_bytes())
    return result
