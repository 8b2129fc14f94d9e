"""The tree that `load` and `unflatten` fill: which leaves fit into it, and what is said of the others."""

import contextlib
import warnings
from collections.abc import Collection, Generator, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlax._jax.tracing import is_tracer
from mlax._jax.trees import flatten_with_path
from mlax._module.nodes import Variable
from mlax._module.recipes import available_dtype
from mlax._module.static_texts import IN_THE_STATE, older_texts, static_defaults, static_texts
from mlax._saving.changes import Described, changes, shown_name
from mlax._saving.contents import classes_by_path, nodes
from mlax._saving.leaves import ArrayType, array_type, as_in, is_floating, rounded
from mlax._saving.numbers import difference, number_path, number_paths
from mlax.tree import dotted, leaves_by_name
from mlax.typing._complaints import LeafMismatchError

__all__ = ["Comparison", "Target", "complaining"]


class Comparison(NamedTuple):
    """Names of arrays that fit; lines for a message on what does not, and on nodes whose class has another name."""

    fits: list[str]
    misfits: list[str]
    classes: list[str]


class Target:
    """The tree to fill.

    Args:
        where: The function to name in errors.
        like: The tree.
        dtype: The dtype that floating-point arrays outside Variables are to have, whatever they have
            now; None if all keep theirs.

    Attributes:
        types: Shape and dtype of each leaf, by path.
        defaults: Values for leaves that a file lacks because the mlax that saved it had no such
            hyperparameter, by path; known once the file is compared.
    """

    def __init__(self, where: str, like: object, dtype: object = None) -> None:
        self._where = where
        self._like = like
        self._leaves, self._treedef = leaves_by_name(where, "like", like)
        self.types: dict[str, ArrayType] = {}
        self.defaults: dict[str, Any] = {}
        for name, leaf in self._leaves.items():
            with complaining(where, "like", name):
                self.types[name] = array_type(leaf)
        self._dtype: Any = None
        self._to_cast: frozenset[str] = frozenset()
        if dtype is not None:
            self._dtype = _float_dtype(where, dtype)
            self._to_cast = frozenset(_floats_outside_variables(where, like))

    def accepted(self, path: str, place: ArrayType, found: ArrayType) -> ArrayType:
        """Return the type that an array for a place in a leaf must have, given the one that was found: the place's
        own, but any floating-point dtype where it is cast.
        """
        is_cast = path in self._to_cast and is_floating(found.dtype)
        return ArrayType(place.shape, found.dtype) if is_cast else place

    def cast(self, path: str, value: Any) -> Any:
        """Return a NumPy array in the dtype that a leaf is to have; itself if it has it."""
        return rounded(value, self._dtype) if path in self._to_cast else value

    def compared(
        self,
        found: Mapping[str, Any],
        expected: Mapping[str, Any],
        static: Mapping[str, str] | None = None,
        classes: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> Comparison:
        """Compare the arrays that there are with those that are expected, and what is known of the tree with this one.

        Args:
            found: Types of the arrays that there are.
            expected: Types of the arrays that there should be.
            static: The static data there; None if unknown.
            classes: The classes of nodes there, as far as they are known.
            aliases: What messages say behind the names of expected arrays.
        """
        own_static = dict(static_texts(self._like)) if static is not None else {}
        # An older mlax wrote tuples of one item without the comma.
        older = {(name, text.replace(",)", ")")): text for name, text in own_static.items()}
        static = {name: older.get((name, text), text) for name, text in (static or {}).items()}
        for name, pattern in older_texts(self._like).items() if static else ():
            if pattern.fullmatch(static.get(name, "")):
                static[name] = own_static[name]
        there = Described(found, static, classes or {})
        here = Described(expected, own_static, classes_by_path(self._like), aliases or {})
        lines, others = changes(there, here, self._newer(found, static, own_static))
        # A flat array of packed leaves has static text too: the list of these leaves.
        fits = [
            name
            for name, kind in expected.items()
            if found.get(name) == kind and static.get(name) == own_static.get(name)
        ]
        return Comparison(fits, lines, others)

    def _newer(
        self, found: Mapping[str, Any], there: Mapping[str, str], here: Mapping[str, str]
    ) -> set[str]:
        """Return paths that an older file may lack: fields with their default, and numbers of a state that have one."""
        newer: set[str] = set()
        for path, default in static_defaults(self._like, here.keys() - there.keys()).items():
            if here[path] == IN_THE_STATE:
                leaf = number_path(path)
                if leaf in found or leaf not in self.types or not isinstance(default, int | float):
                    continue
                self.defaults[leaf] = self.placed(
                    leaf, np.full(self.types[leaf].shape, default, self.types[leaf].dtype)
                )
                newer.add(leaf)
            newer.add(path)
        return newer

    def refuse(
        self,
        source: str,
        misfits: Collection[str],
        classes: Collection[str],
        kept: Collection[str],
        strict: bool,
        cure: str = "",
        loads: bool = True,
    ) -> None:
        """Raise an error if there are misfits, unless `like` has values to keep and `strict` is False.

        Args:
            source: Where the leaves come from, for the message.
            misfits: Lines on what does not fit.
            classes: Lines on nodes whose class has another name.
            kept: Paths of the leaves that keep their values.
            strict: Whether everything has to fit.
            cure: What to do about it, for the message.
            loads: Whether the function loads anything.
        """
        if misfits and (strict or not all(map(self.has_value, kept))):
            where = f"{self._where}: {source} and `like` differ"
            how = " (strict=False loads what fits)" if loads else ""
            if not strict:
                how = ", and `like` has only shapes, no values to keep"
            listed = _listed([*classes, *misfits, *([cure] if cure else [])])
            raise LeafMismatchError(f"{where}{how}:{listed}")

    def warn(self, source: str, misfits: Collection[str], classes: Collection[str]) -> None:
        """Warn of what does not fit, or of classes with other names; for public functions, whose callers see it."""
        text = f"{self._where}: {source} and `like` differ; only leaves that fit are loaded:"
        if not misfits:
            text = (
                f"{self._where}: everything in {source} fits `like`, but classes have other names:"
            )
        if misfits or classes:
            warnings.warn(f"{text}{_listed([*classes, *misfits])}", stacklevel=4)

    def warn_of_numbers(self, source: str, values: Mapping[str, Any]) -> None:
        """Warn where a state has another number in a file than in `like`, such as a learning rate.

        The file's wins, and an optimizer with the number of `like` goes on with it.
        """
        lines: list[str] = []
        for name in number_paths(self._like):
            ours = self._leaves[name]
            if name not in values or not self.has_value(name) or is_tracer(ours):
                continue
            if differ := difference(np.asarray(values[name]), np.asarray(ours)):
                lines.append(f"{name}: {differ}")
        if lines:
            lines.append(
                "To go on with your own, replace them in the state: optim.with_numbers(state, {path: ...})."
            )
            warnings.warn(
                f"{self._where}: numbers of optimizers in {source} differ from those in `like`, and are what is loaded:"
                f"{_listed(lines)}",
                stacklevel=4,
            )

    def has_value(self, name: str) -> bool:
        """Whether a leaf has a value that it can keep."""
        return not isinstance(self._leaves[name], jax.ShapeDtypeStruct)

    def placed(self, name: str, value: Any) -> Any:
        """Return a value as the same kind of thing that `like` has in its place."""
        return as_in(self._leaves[name], value)

    def filled(self, values: Mapping[str, Any]) -> Any:
        """Return the tree with some leaves replaced."""
        return self._treedef.unflatten(
            values[name] if name in values else self._kept(name, leaf)
            for name, leaf in self._leaves.items()
        )

    def _kept(self, name: str, leaf: Any) -> Any:
        if name not in self._to_cast:
            return leaf
        return leaf.astype(self._dtype) if isinstance(leaf, jax.Array) else self.cast(name, leaf)


def _float_dtype(where: str, dtype: object) -> Any:
    found = available_dtype(where, dtype)
    if not jnp.issubdtype(found, jnp.floating):
        raise TypeError(
            f"{where}: dtype must be a floating-point dtype, such as jnp.bfloat16, got {found}"
        )
    return found


def _floats_outside_variables(where: str, like: object) -> Iterator[str]:
    """Yield the paths of the arrays to cast. Numbers of Python have no dtype, and what a Variable holds keeps its own.

    Raises:
        TypeError: The tree has the state of an optimizer.
    """
    states = [
        shown_name(dotted(path))
        for path, cls in nodes(like)
        if "hyperparameters" in getattr(cls, "_fields", ()) or cls.__module__.startswith("optax.")
    ]
    if states:
        raise TypeError(
            f"{where}: dtype is for models, got a `like` with the state of an optimizer at {', '.join(states)}.\n"
            f"  Leave the state out of `like`, as in (model,), and pass strict=False; or load all without dtype: a "
            "state keeps its dtypes."
        )
    for path, leaf in flatten_with_path(like, lambda node: isinstance(node, Variable))[0]:
        dtype: Any = getattr(leaf, "dtype", None)
        if not isinstance(leaf, Variable) and dtype is not None and is_floating(dtype.name):
            yield dotted(path)


def _listed(lines: Collection[str]) -> str:
    return "".join(f"\n  {line}" for line in lines)


@contextlib.contextmanager
def complaining(where: str, tree: str, name: str) -> Generator[None, None, None]:
    """Prefix errors with the function, tree and leaf that they are about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {shown_name(name)} in `{tree}`: {error}") from None
