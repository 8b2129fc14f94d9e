"""Whether the defaults of a spec meet its own requirements."""

import ast

from mlax_codegen.checking.logic import value_of
from mlax_codegen.checking.options import decide
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import names_in

__all__ = ["check_defaults"]


def check_defaults(spec: Spec) -> None:
    """Record each requirement that the defaults break: `Adam()` would fail."""
    defaults = {h.name: ast.literal_eval(h.default) for h in spec.hyperparameters}
    for requirement in spec.requirements:
        test = requirement.test.expression
        try:
            kept = decide(test, lambda part: bool(value_of(part, defaults)))
        except (ArithmeticError, TypeError):  # None > 0, for example
            kept = False
        except KeyError:  # a part of it has a mistake
            continue
        if not kept:
            names = dict.fromkeys(names_in([test]))
            given = ", ".join(f"{name} = {defaults[name]!r}" for name in names if name in defaults)
            message = f"the defaults do not meet this requirement: {given}"
            requirement.test.note(test, f"{message}; change the defaults or the requirement")
