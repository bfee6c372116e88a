"""The inside of a process that lays out one graph; see `svg` for the other side.

Graphviz is C code that may crash, or take hours for a graph that is made for it. So it never runs in the process that
asks. This file is run as a program: it reads the graph as JSON from its standard input and writes SVG to its standard
output. It imports nothing of Perdure, so that it starts quickly.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Final

MOST_BYTES: Final = 2 * 1024**3
"""Of memory."""

CANNOT_LOAD: Final = 70
"""The exit code when Graphviz cannot be loaded."""


def main() -> None:
    """Read the graph, lay it out, write the SVG."""
    order = json.load(sys.stdin.buffer)
    _bound(resource.RLIMIT_CPU, order["seconds"])
    _bound(resource.RLIMIT_AS, MOST_BYTES)
    _bound(resource.RLIMIT_CORE, 0)
    try:
        import pygraphviz  # type: ignore[import-untyped]
    except ImportError as error:  # the wheel carries Graphviz, but not all of the libraries below that
        print(error, file=sys.stderr)
        sys.exit(CANNOT_LOAD)
    graph = pygraphviz.AGraph(name="picture", directed=True, strict=False)
    graph.graph_attr.update(order["graph"])
    graph.node_attr.update(order["node"])
    graph.edge_attr.update(order["edge"])
    for place, attributes in enumerate(order["nodes"]):
        graph.add_node(f"n{place}", id=f"n{place}", **attributes)
    for place, (start, end, attributes) in enumerate(order["edges"]):
        graph.add_edge(f"n{start}", f"n{end}", key=f"e{place}", id=f"e{place}", **attributes)
    sys.stdout.buffer.write(graph.draw(format="svg", prog="dot"))


def _bound(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (bound, bound))


if __name__ == "__main__":
    main()
