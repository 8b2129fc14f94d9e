"""A good spec with other equations."""

from pathlib import Path

from mlax_codegen.reading.spec import Spec, read_spec
from tests.codegen.checking.bad_specs import GOOD


def spec_with(leaf: str, tmp_path: Path) -> Spec:
    start, _ = GOOD.split("scalars = '''\n")
    path = tmp_path / "probe.toml"
    path.write_text(f"{start}leaf = '''\n{leaf}\n'''\n")
    return read_spec(path)
