"""How `jax.export` writes the structure of a module: the names of its children, and its static fields as text."""

from typing import Any

from mlax._module.exporting import codec_of, export_name, register_node
from mlax._module.flattening import AuxData, flattening_of, register_redefined
from mlax._module.static import tag
from mlax._module.written import read, require_fields, written

__all__ = ["register_module"]


def register_module(cls: Any) -> None:
    """Let `jax.export` write modules of a class, and read them back."""
    if codec_of(export_name(cls)) is not None:
        register_redefined(cls)

    def write(aux_data: AuxData) -> Any:
        flattening = aux_data.flattening
        values = zip(flattening.static, aux_data.values, strict=True)
        static = {name: written(value, f"{cls.__name__}.{name}") for name, value in values}
        return {"children": flattening.children, "static": static}

    def read_aux_data(text: Any) -> AuxData:
        children, static = text["children"], text["static"]
        # Only names of fields reach the generated functions.
        require_fields(cls.__name__, cls._names, [*children, *static], cls.__qualname__)
        names = tuple(name for name in cls._names if name in static)
        values = tuple(read(static[name], f"{cls.__name__}.{name}") for name in names)
        return AuxData(
            flattening_of(cls, tuple(name for name in cls._names if name not in static), names),
            values,
            tuple(map(tag, values)),
        )

    def unflatten(aux_data: AuxData, children: Any) -> Any:
        return aux_data.flattening.unflatten(aux_data, children)

    register_node(cls, write=write, read=read_aux_data, unflatten=unflatten)
