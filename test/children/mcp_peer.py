"""A server with the official Python package: over stdio, or over HTTP at the port of the argument."""
import sys
from typing import Annotated

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp_types import Completion
from pydantic import BaseModel

server = MCPServer("peer", version="1.2.3", instructions="Be brief.", log_level="ERROR")


class Name(BaseModel):
    name: str


def ask() -> Elicit[Name]:
    return Elicit("Who?", Name)


@server.tool()
def add(a: int, b: int) -> int:
    return a + b


@server.tool()
def fail() -> str:
    raise ToolError("no such luck")


@server.tool()
async def steps(n: int, ctx: Context) -> str:
    for step in range(1, n + 1):
        await ctx.report_progress(step, n, f"step {step}")
    return "done"


@server.tool()
async def slow(seconds: float) -> str:
    try:
        await anyio.sleep(seconds)
    except anyio.get_cancelled_exc_class():
        sys.stderr.write("the call was cancelled\n")
        sys.stderr.flush()
        raise
    return "slept"


@server.tool()
def greet(who: Annotated[Name, Resolve(ask)]) -> str:
    return f"Hello {who.name}"


@server.tool()
async def say(text: str, ctx: Context) -> str:
    await ctx.info(text)
    return "said"


@server.tool()
async def touch(uri: str, ctx: Context) -> str:
    await ctx.notify_resource_updated(uri)
    await ctx.notify_tools_changed()
    return "touched"


@server.resource("memo://today")
def today() -> str:
    return "Buy bread."


@server.resource("memo://of/{name}")
def of(name: str) -> str:
    return f"The memo of {name}."


@server.prompt()
def letter(to: str) -> str:
    return f"Write a letter to {to}."


@server.completion()
async def complete(ref, argument, context):
    names = [name for name in ["Ann", "Anton", "Bob"] if name.startswith(argument.value)]
    return Completion(values=names, total=len(names), has_more=False)


if len(sys.argv) > 1:
    server.run("streamable-http", port=int(sys.argv[1]))
else:
    server.run("stdio")
