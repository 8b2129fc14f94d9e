"""Every combination of the static options that equations ask about.

Such a configuration decides each `if`, which leaves a straight line of assignments. Walking that
line once for each configuration shows which slots it reads, and whether it reads the weights.
`condition_of` turns the configurations in which something was found into a condition again, for
generated code.
"""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from mlax_codegen.reading.trees import names_in, parts_of

__all__ = [
    "Configuration",
    "condition_of",
    "holds",
    "literal",
    "names_of",
    "option_of",
    "options_in",
    "tests_in",
]

_LONGEST = 3  # options in one conjunction; if no such ones suffice, a configuration is spelt out
_NONE = "None"
_VALUE = "a value"


@dataclass(frozen=True)
class Configuration:
    """One combination of options: the answer to each question that the equations ask."""

    answers: tuple[tuple[str, str], ...]

    def __getitem__(self, option: str) -> str:
        """Return the answer for an option."""
        return dict(self.answers)[option]

    def about(self, options: Collection[str]) -> "Configuration":
        """Return the answers that depend on some names only."""
        return Configuration(
            tuple(
                (option, answer)
                for option, answer in self.answers
                if names_of(option) <= {*options}
            )
        )


@cache
def names_of(option: str) -> frozenset[str]:
    """Return the names in an option."""
    return frozenset(names_in([ast.parse(option)]))


def tests_in(nodes: Iterable[ast.AST]) -> Iterator[ast.expr]:
    """Yield the tests of all `if` statements and expressions."""
    for node in nodes:
        for part in parts_of(node):
            if isinstance(part, ast.If | ast.IfExp):
                yield part.test


def options_in(
    tests: Iterable[ast.expr], choices: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each option that some tests ask about, with its possible answers."""
    for test in tests:
        yield from _options(test, choices)


def option_of(test: ast.expr, choices: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return the option that a test asks about; None if the test has several parts."""
    if isinstance(test, ast.BoolOp | ast.UnaryOp):
        return None
    [(option, _)] = _options(test, choices)
    return option


def _options(
    test: ast.expr, choices: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    match test:
        case ast.BoolOp(values=values):
            for value in values:
                yield from _options(value, choices)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _options(operand, choices)
        case ast.Name(id=name):
            yield name, choices.get(name, ("True", "False"))
        case ast.Compare(left=ast.Name(id=name), ops=[ast.Is() | ast.IsNot()]):
            yield f"{name} is None", (_NONE, _VALUE)
        case ast.Compare(left=ast.Name(id=name)) if name in choices:
            yield name, choices[name]
        case _:
            yield ast.unparse(test), ("True", "False")


def holds(test: ast.expr, configuration: Configuration) -> bool:
    """Whether a static test holds in a configuration."""
    match test:
        case ast.BoolOp(op=op, values=values):
            every = all if isinstance(op, ast.And) else any
            return every(holds(value, configuration) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not holds(operand, configuration)
        case ast.Name(id=name):
            return configuration[name] == "True"
        case ast.Compare(left=ast.Name(id=name), ops=[ast.Is()]):
            return configuration[f"{name} is None"] == _NONE
        case ast.Compare(left=ast.Name(id=name), ops=[ast.IsNot()]):
            return configuration[f"{name} is None"] == _VALUE
        case ast.Compare(
            left=ast.Name(id=name), ops=[op], comparators=[ast.Constant(value=str() as choice)]
        ):
            return (configuration[name] == choice) is isinstance(op, ast.Eq)
        case _:
            return configuration[ast.unparse(test)] == "True"


def condition_of(chosen: Collection[Configuration], among: Collection[Configuration]) -> str | None:
    """Return a short test that holds in some configurations and no others; None if they are all.

    It is a disjunction of conjunctions, built greedily: short conjunctions first, and among those
    of one length the one that holds in the most configurations that are still left.
    """
    if len(chosen) == len(among):
        return None
    others = [
        frozenset(configuration.answers) for configuration in among if configuration not in chosen
    ]
    missing: dict[Configuration, frozenset[tuple[str, str]]] = {
        configuration: frozenset(configuration.answers)
        for configuration in sorted(chosen, key=lambda w: w.answers)
    }
    literals = sorted({pair for configuration in chosen for pair in configuration.answers})
    found: list[str] = []
    for length in range(1, _LONGEST + 1):
        candidates = [
            terms
            for terms in [frozenset(pairs) for pairs in combinations(literals, length)]
            if not any(terms <= answers for answers in others)
        ]
        while candidates and missing:
            counts = [sum(terms <= answers for answers in missing.values()) for terms in candidates]
            if not max(counts):
                break
            best = candidates[counts.index(max(counts))]
            found.append(_conjunction(best))
            missing = {w: answers for w, answers in missing.items() if not best <= answers}
    return " or ".join([*found, *(_conjunction(answers) for answers in missing.values())])


def _conjunction(terms: Collection[tuple[str, str]]) -> str:
    return " and ".join(literal(*term) for term in sorted(terms))


def literal(option: str, answer: str) -> str:
    """Return the test whether an option has an answer."""
    if answer in {_NONE, _VALUE}:
        return option if answer == _NONE else option.replace(" is None", " is not None")
    if answer in {"True", "False"}:
        plain = option.isidentifier()
        return option if answer == "True" else f"not {option}" if plain else f"not ({option})"
    return f'{option} == "{answer}"'
