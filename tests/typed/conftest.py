"""The snippets, and one run of the checkers that all typed tests share."""

import pickle
from pathlib import Path

import pytest

from tests.once import once
from tests.typed import corpus
from tests.typed.checkers import Reports, run_all

HERE = Path(__file__).parent
SNIPPETS = sorted((HERE / "snippets").glob("*.py"))
WRONG = sorted((HERE / "wrong").glob("*.py"))


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """What the checkers say about every snippet and every file of the corpus."""

    def run(folder: Path) -> None:
        said = run_all([*SNIPPETS, *WRONG], corpus.FILES)
        (folder / "reports").write_bytes(pickle.dumps(said))

    folder = once(tmp_path_factory, "typed", run)
    result: Reports = pickle.loads((folder / "reports").read_bytes())
    return result
