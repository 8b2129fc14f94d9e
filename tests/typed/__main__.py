"""Print which mistakes each type checker sees in the corpus, and what it reports in right programs.

python -m tests.typed
"""

from tests.typed import corpus
from tests.typed.checkers import CHECKERS, VERSIONS, run_all

reports = run_all([], corpus.FILES)
print(corpus.table(reports))
for file in corpus.FILES:
    for checker in CHECKERS:
        for version in VERSIONS:
            said = reports[checker, version].get(file, [])
            for line in corpus.disagreements(file.read_text(), said, checker, version):
                print(f"{file.name}, Python {version}: {line}")
