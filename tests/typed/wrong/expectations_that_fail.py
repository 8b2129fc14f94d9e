"""Expectations that are wrong on purpose: test_harness.py asserts that each one is complained about."""

from typing import reveal_type


def unmarked_error() -> int:
    return "one"


def marked_but_right() -> int:
    return 1  # error: reportReturnType // return-value


def marked_with_another_rule() -> int:
    return "one"  # error: reportArgumentType // arg-type


def marked_for_one_checker_only() -> int:
    return "one"  # error: reportReturnType // -


def reveals_another_type(number: int) -> None:
    reveal_type(number)  # reveals: str


def reveals_another_type_to_one_checker(number: int) -> None:
    reveal_type(number)  # reveals: int // str


def reveals_without_a_comment(number: int) -> None:
    reveal_type(number)


def marked_to_reveal_and_does_not(number: int) -> int:
    return number  # reveals: int


def right(number: int) -> int:
    reveal_type([number])  # reveals: list[int]
    return "one"  # error: reportReturnType // return-value
