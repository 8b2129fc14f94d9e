"""Static data as text, for checkpoints of other libraries: `mlax.load` compares it beside the arrays."""

import json
from typing import Any

from mlax._jax.tracebacks import trimmed
from mlax._module.static_texts import static_texts
from mlax._saving.contents import classes_by_path
from mlax._saving.target import Target
from mlax.tree import describe

__all__ = ["check_static", "static_text"]


@trimmed
def static_text(tree: object) -> str:
    """Return all that a tree holds beside its arrays as text, for `check_static`.

    These are the static fields of modules, hyperparameters and schedules, and the names of classes, as `mlax.save`
    writes them into a file. A checkpoint of another library has only arrays; save this text with it.

    Args:
        tree: A model, a state, or any tree.
    """
    return json.dumps({"static": dict(static_texts(tree)), "classes": classes_by_path(tree)})


@trimmed
def check_static(saved: str, like: object) -> None:
    """Raise an error unless a tree has the static data that another one had when it was saved.

    Warns if only classes have other names, as `mlax.load` does.

    Args:
        saved: From `static_text`.
        like: The tree into which arrays are to be restored: a model, a state, or the result of `jax.eval_shape`.

    Raises:
        LeafMismatchError: Static data differ. The message names each difference by its path.
        ValueError: `saved` is not from `static_text`.
    """
    where = "mlax.check_static"
    try:
        known: Any = json.loads(saved)
        static, classes = (dict[str, str](known[name]) for name in ("static", "classes"))
    except (TypeError, ValueError, KeyError):
        raise ValueError(
            f"{where}: `saved` must be text from mlax.static_text, got {describe(saved)}"
        ) from None
    target = Target(where, like)
    _, misfits, others = target.compared(target.types, target.types, static, classes)
    target.refuse("`saved`", misfits, others, (), strict=True, loads=False)
    target.warn("`saved`", misfits, others)
