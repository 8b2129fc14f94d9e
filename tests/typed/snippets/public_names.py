"""Names that do not exist are reported, though some that do are loaded on first use."""

from typing import reveal_type

import mlax
import mlax_optimizers
from mlax import optim
from mlax.optim import adam


def right() -> None:
    reveal_type(mlax.optim.Adam())  # reveals: Adam
    reveal_type(optim.adam.Adam())  # reveals: Adam
    reveal_type(adam.Adam())  # reveals: Adam
    reveal_type(mlax_optimizers.adam.Adam())  # reveals: Adam
    reveal_type(mlax_optimizers.Adam())  # reveals: Adam


def misspelt() -> None:
    assert mlax.value_and_gard  # error: reportAttributeAccessIssue // attr-defined
    assert mlax.optin  # error: reportAttributeAccessIssue // attr-defined
    assert optim.adm  # error: reportAttributeAccessIssue // attr-defined
    assert optim.Adm  # error: reportAttributeAccessIssue // attr-defined
    assert optim.adam.stp  # error: reportAttributeAccessIssue // attr-defined
    assert mlax_optimizers.adm  # error: reportAttributeAccessIssue // attr-defined
