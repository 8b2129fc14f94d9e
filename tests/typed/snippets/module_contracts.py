"""Abstract properties, converters and `__check__`."""

from abc import abstractmethod
from typing import Generic, Protocol, Self, TypeVar, reveal_type

from jaxtyping import Array

from mlax import Module, Parameter, field

T = TypeVar("T")


class Encoder(Module, Generic[T]):
    """Subclasses say how many features they have."""

    @property
    @abstractmethod
    def features(self) -> int: ...

    @property
    @abstractmethod
    def kind(self) -> T: ...


class ByProperty(Encoder[str]):
    width: int

    @property
    def features(self) -> int:
        return 2 * self.width

    @property
    def kind(self) -> str:
        return "property"


class ByField(Encoder[str]):
    """mypy accepts fields in place of properties; pyright wants to be told."""

    depth: int
    features: int  # error: reportIncompatibleMethodOverride // -
    kind: str = "field"  # pyright: ignore[reportIncompatibleMethodOverride]


class Lacking(Encoder[str]):
    width: int


class HasFeatures(Protocol):
    @property
    def features(self) -> int: ...


def width_of(encoder: HasFeatures) -> int:
    return encoder.features


def abstract(encoder: Encoder[bytes]) -> None:
    reveal_type(ByField(3, 4).kind)  # reveals: str
    reveal_type(encoder.kind)  # reveals: bytes
    ByProperty(3)
    ByField(3, features=4, kind="x")
    width_of(ByProperty(3))
    width_of(ByField(3, 4))
    ByField(3)  # error: reportCallIssue // call-arg
    ByField(3, "4")  # error: reportArgumentType // arg-type
    Lacking(3)  # error: reportAbstractUsage // abstract
    encoder.features = 3  # error: reportAttributeAccessIssue // misc


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class Conv(Module):
    """pyright knows converters; mypy takes a field for what it is annotated as."""

    kernel_size: tuple[int, int] = field(converter=pair)
    strides: tuple[int, int] = field(converter=pair, default=1, kw_only=True)
    width: int = field(converter=int, default_factory=lambda: "3")
    scale: Parameter = field(converter=Parameter, default=1.0)

    def __check__(self) -> None:
        if self.width < 0:
            raise ValueError("width must be >= 0")

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x, self


def converters(conv: Conv) -> None:
    reveal_type(conv.kernel_size)  # reveals: tuple[int, int]
    reveal_type(conv.scale)  # reveals: Parameter[Array]
    Conv((3, 3), 3, strides=(1, 1))
    Conv(3)  # error: - // arg-type
    Conv((3, 3), "3", strides=2)  # error: - // arg-type
    Conv("3")  # error: reportArgumentType // arg-type
    Conv((3, 3), strides="1")  # error: reportArgumentType // arg-type


class Wrong(Module):
    kernel_size: str = field(converter=pair)  # error: reportAssignmentType, reportGeneralTypeIssues // assignment
