"""What the topics share: tables, and numbers in words."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

console = Console(width=130)


def show(title: str, note: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Prints a table with its first column to the left and all others to the right."""
    table = Table(title=title, caption=note, title_justify="left", caption_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def megabytes(count: float) -> str:
    """MB, the million bytes of the bounds."""
    return f"{count / 1e6:,.1f}"


def ratio(x: float, bound: float | None = None) -> str:
    """A ratio, red where it misses its bound."""
    text = f"{x:.2f}" if x >= 0.1 else f"{x:.3f}"
    if bound is None:
        return text
    return f"[bold red]{text}[/]" if x > bound else f"[green]{text}[/]"
