"""The snippets, and one run of the checkers that all typed tests share."""

from pathlib import Path

import pytest

from tests.typed.checkers import Findings, run_all
from tests.typed.expectations import Checker

HERE = Path(__file__).parent
SNIPPETS = sorted((HERE / "snippets").glob("*.py"))
WRONG = sorted((HERE / "wrong").glob("*.py"))


@pytest.fixture(scope="session")
def findings() -> dict[Checker, Findings]:
    """What both checkers say about every snippet."""
    return run_all([*SNIPPETS, *WRONG])
