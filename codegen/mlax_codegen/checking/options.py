"""Every combination of the static options that equations ask about.

Such a configuration decides each `if`. Equations are walked with the set of configurations that lead to each place
(branches.py), which shows in which of them slots and weights are read. `condition_of` turns such a set into a condition
again, for generated code.
"""

import ast
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations

from mlax_codegen.reading.trees import names_in, parts_of

__all__ = [
    "Configuration",
    "condition_of",
    "decide",
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
        return self.by_option[option]

    @cached_property
    def by_option(self) -> Mapping[str, str]:
        """The answers by their options."""
        return dict(self.answers)

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
        match test:
            case ast.BoolOp(values=parts):
                yield from options_in(parts, choices)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield from options_in([operand], choices)
            case _:
                option, answer, _ = _question(test)
                two = (_NONE, _VALUE) if answer == _NONE else ("True", "False")
                yield option, choices.get(option, two)


def option_of(test: ast.expr) -> str | None:
    """Return the option that a test asks about; None if the test has several parts."""
    return None if isinstance(test, ast.BoolOp | ast.UnaryOp) else _question(test)[0]


def _question(test: ast.expr) -> tuple[str, str, bool]:
    """Return the option that a test without parts asks about, an answer, and whether the test holds with that one."""
    match test:
        case ast.Compare(left=ast.Name(id=name), ops=[ast.Is() | ast.IsNot() as op]):
            return f"{name} is None", _NONE, isinstance(op, ast.Is)
        case ast.Compare(
            left=ast.Name(id=name), ops=[op], comparators=[ast.Constant(value=str() as choice)]
        ):
            return name, choice, isinstance(op, ast.Eq)
        case _:
            return ast.unparse(test), "True", True


def decide(test: ast.expr, part: Callable[[ast.expr], bool]) -> bool:
    """Whether a condition holds, if its parts without `and`, `or` and `not` are decided."""
    match test:
        case ast.BoolOp(op=op, values=values):
            every = all if isinstance(op, ast.And) else any
            return every(decide(value, part) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not decide(operand, part)
        case _:
            return part(test)


def holds(test: ast.expr, configuration: Configuration) -> bool:
    """Whether a static test holds in a configuration."""

    def is_answered(part: ast.expr) -> bool:
        option, answer, holding = _question(part)
        return (configuration[option] == answer) is holding

    return decide(test, is_answered)


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
