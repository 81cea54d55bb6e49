"""The documents of docs/, read: their blocks of Python, and their tables of another library's calls and ours."""

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss

DOCS = Path(__file__).parents[1] / "docs"


class Block(NamedTuple):
    """A block of Python: the heading it stands under, and its code, which knows its lines in the document."""

    heading: str
    code: CodeType


def blocks(name: str) -> list[Block]:
    """All blocks of a document, in its order."""
    found, heading, start = [], "", None
    lines = (DOCS / name).read_text().splitlines()
    for number, line in enumerate(lines):
        if line == "```python":
            start = number + 1
        elif line == "```" and start is not None:
            source = "\n" * start + "\n".join(lines[start:number])
            found.append(Block(heading, compile(source, str(DOCS / name), "exec")))
            start = None
        elif line.startswith("#") and start is None:
            heading = line.lstrip("# ")
    return found


class Row(NamedTuple):
    """A row of a table of conversion."""

    theirs: str
    ours: str | None  # None for —: we have no such loss
    differs: str


def rows(name: str) -> list[Row]:
    """The rows of all tables of a document whose last column says what differs."""
    return list(_rows((DOCS / name).read_text().splitlines()))


def _rows(lines: list[str]) -> Iterator[Row]:
    inside = False
    for number, line in enumerate(lines, 1):
        if not line.startswith("|"):
            inside = False
        elif line.endswith("| what differs |"):
            inside = True
        elif inside and not re.fullmatch(r"[|\s:-]+", line):
            row = re.fullmatch(r"\| `([^`]+)` \| (?:`([^`]+)`|—) \|(.*)\|", line)
            if row is None:
                raise ValueError(f"line {number} is not | `their call` | `our call` or — | what differs |: {line}")
            yield Row(row[1], row[2], row[3].strip())


def names(*cells: str) -> set[str]:
    """The names that cells use, those of attributes left out."""
    return {node.id for cell in cells for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Name)}


def called(cell: str) -> set[str]:
    """The functions that a cell calls, by the last part of their names."""
    found = (node.func for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call))
    return {f.attr if isinstance(f, ast.Attribute) else f.id for f in found if isinstance(f, ast.Attribute | ast.Name)}


OURS = {name: getattr(jaxloss, name) for name in [*jaxloss.__all__, "sum"]} | {"jax": jax, "jnp": jnp}


def variables(name: str) -> dict[str, np.ndarray]:
    """The arrays that the first block of a document draws."""
    drawn: dict[str, Any] = {}
    exec(blocks(name)[0].code, drawn)
    return {name: x for name, x in drawn.items() if isinstance(x, np.ndarray)}


def varied(row: Row, drawn: Mapping[str, np.ndarray], constant: Collection[str] = ()) -> list[str]:
    """The floating-point variables of a row, by which it is differentiated."""
    used = names(row.theirs, row.ours or row.theirs) - set(constant)
    return sorted(name for name, x in drawn.items() if name in used and x.dtype == np.float64)


class Evaluated(NamedTuple):
    """The value of a cell, and its gradients by the variables, weighted by `cotangent`."""

    value: np.ndarray
    gradients: dict[str, np.ndarray]


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of no symmetry, so that no element stands for another."""
    return np.random.default_rng(1).normal(size=shape)


def evaluated(cell: str, namespace: Mapping[str, Any], drawn: Mapping[str, np.ndarray], by: list[str]) -> Evaluated:
    """A cell of JAX, with the variables drawn, and differentiated by some."""
    arrays = {name: jnp.asarray(x) for name, x in drawn.items()}

    @jax.jit
    def value_and_gradients(some: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        value, pullback = jax.vjp(lambda some: jnp.asarray(eval(cell, {**namespace, **arrays, **some})), some)
        return value, *pullback(jnp.asarray(cotangent(value.shape), value.dtype))

    return Evaluated(*jax.tree.map(np.asarray, value_and_gradients({name: arrays[name] for name in by})))


def check(row: Row, ours: Evaluated | None, theirs: Evaluated, tolerance: float) -> None:
    """Both have one value, and one gradient by each variable but those by which the row says that it differs.

    Or the row says why there is no call of ours.
    """
    if ours is None:
        assert row.differs, "a row without our call says why"
        return
    assert_close(ours.value, theirs.value, tolerance)
    assert theirs.gradients, "there is nothing to differentiate by"
    others = set(re.findall(r"the gradient by `(\w+)` differs", row.differs))
    assert others <= set(theirs.gradients)
    for name, gradient in theirs.gradients.items():
        assert np.any(gradient != 0), "a gradient of zeros tests nothing"
        if name not in others:
            assert_close(ours.gradients[name], gradient, tolerance)
        else:
            assert not np.allclose(ours.gradients[name], gradient, rtol=1e-3, atol=1e-3), f"it differs no more by {name}"


def assert_close(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """Of one shape, and close relative to the largest number."""
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def assert_takes_numpy(row: Row, drawn: Mapping[str, np.ndarray]) -> None:
    """Our call takes arrays of numpy, as loaders give them: all of them, or integers traced beside weights that are not."""
    cell = row.ours or ""
    expected = evaluated(cell, OURS, drawn, []).value
    np.testing.assert_allclose(eval(cell, {**OURS, **drawn}), expected, rtol=1e-12, atol=1e-12)
    integers = {name: x for name, x in drawn.items() if x.dtype.kind in "bi"}
    traced = jax.jit(lambda some: eval(cell, {**OURS, **drawn, **some}))
    np.testing.assert_allclose(traced(integers), expected, rtol=1e-12, atol=1e-12)


class HardPoint(NamedTuple):
    """Arrays at which the two calls of a row may differ, and what the row says of it: nothing where they agree."""

    theirs: str
    at: dict[str, Any]
    says: str = ""


def check_hard_point(point: HardPoint, row: Row, ours: Evaluated, theirs: Evaluated, tolerance: float) -> None:
    """Both agree, NaN and infinities too, unless the row says what differs: then they do not."""
    assert point.says in row.differs
    pairs = [(ours.value, theirs.value), *((ours.gradients[name], theirs.gradients[name]) for name in theirs.gradients)]
    agree = all(np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True) for x, y in pairs)
    assert agree == (not point.says), pairs


def hard_point_row(point: HardPoint, rows: list[Row], drawn: Mapping[str, np.ndarray]) -> tuple[Row, dict[str, np.ndarray]]:
    """The row of a hard point, and the arrays drawn with the point's in their place."""
    (row,) = (row for row in rows if row.theirs == point.theirs)
    assert set(point.at) <= names(row.theirs, row.ours or "")
    return row, {**drawn, **{name: np.asarray(x, drawn[name].dtype) for name, x in point.at.items()}}
