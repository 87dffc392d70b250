"""`headgate models`: the models that a running gateway can be asked for."""

import asyncio
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from headgate_cli.client import Listed, connected


def run(*, url: str | None, grpc: str | None, as_json: bool) -> int:
    """Prints a table, or one JSON document."""
    return asyncio.run(show(url, grpc, as_json))


async def show(url: str | None, grpc: str | None, as_json: bool) -> int:
    """Asks for the models and prints them."""
    async with connected(url, grpc) as client:
        listed, document = await client.models()
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        Console(highlight=False, markup=False).print(table(listed))
    return 0


def table(models: Sequence[Listed]) -> Table:
    """The models, one in a row; prices in US dollars for a million tokens."""
    rows = Table(box=None, pad_edge=False)
    rows.add_column("MODEL", overflow="fold", no_wrap=True)
    rows.add_column("PROVIDER")
    rows.add_column("CONTEXT", justify="right")
    rows.add_column("INPUT $/M", justify="right")
    rows.add_column("OUTPUT $/M", justify="right")
    for model in models:
        context = f"{model.context_length:,}" if model.context_length else ""
        price = model.price
        rows.add_row(
            model.id,
            model.provider,
            context,
            price.get("input_per_million", ""),
            price.get("output_per_million", ""),
        )
    return rows
