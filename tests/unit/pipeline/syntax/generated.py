"""Pipelines made at random, for tests: valid texts of every form of the grammar, and what to compare of a document."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import strategies as st

from perdure.pipeline.document import Attribute, Document

NAMES = st.sampled_from(["A", "B", "C", "D", "start", "_x1", "true", "exit"])
KEYS = st.sampled_from(["label", "class", "shape", "prompt", "human.timeout", "stack.child.x", "k", "weight"])

ESCAPED = st.sampled_from(['\\"', "\\n", "\\t", "\\\\", "//", "/*", "*/", "\n", "{", "]", ";", "--", "é", "日", "#"])
STRINGS = st.lists(ESCAPED | st.sampled_from("ab ,=-"), max_size=6).map(lambda parts: '"' + "".join(parts) + '"')
NUMBERS = st.integers(-(2**63), 2**63 - 1).map(str) | st.sampled_from(["007", "-0", "0.5", "-12.250", "1.0"])
DURATIONS = st.sampled_from(["900s", "5ms", "1m", "02h", "7d", "0s"])
PLAIN_BARE = st.sampled_from(["box", "true", "false", "True", "wait_human", "x1"])
BARE = PLAIN_BARE | st.sampled_from(["summary:high", "gpt-5.2", "a.b:c-d", "true-ish", "a-"])
VALUES = STRINGS | NUMBERS | DURATIONS | BARE

BLANKS = st.sampled_from([" ", "\n", "\t ", "\r\n", "\n\n\n", "  \n "])
COMMENTS = st.sampled_from(
    [
        "// one\n",
        "//\n",
        '// "x" { /* \r\n',
        "/* two */",
        "/**/",
        "/* on\n  two lines */",
        " /* a */ // b\n",
        "\n// c \n",
    ]
)


def attribute_lists(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Tokens of a list of attributes."""
    pairs = st.lists(st.tuples(KEYS, values).map(lambda pair: [pair[0], "=", pair[1]]), min_size=1, max_size=4)
    return pairs.map(lambda given: ["[", *joined([[",", *one] for one in given])[1:], "]"])


def statements(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Tokens of one statement."""
    attributes = attribute_lists(values)
    maybe = st.just(list[str]()) | attributes
    chains = st.lists(NAMES, min_size=2, max_size=4).map(lambda names: " -> ".join(names).split())
    simple = st.one_of(
        st.tuples(st.sampled_from([["graph"], ["node"], ["edge"]]), attributes).map(joined),
        st.tuples(KEYS, values).map(lambda pair: [pair[0], "=", pair[1]]),
        st.tuples(NAMES.map(lambda name: [name]), maybe).map(joined),
        st.tuples(chains, maybe).map(joined),
    )
    simple = st.tuples(simple, st.sampled_from([[], [";"]])).map(joined)
    heads = st.sampled_from([["subgraph"], ["subgraph", "cluster_1"], ["subgraph", "s"]])
    return st.recursive(
        simple,
        lambda inner: st.tuples(heads, st.just(["{"]), st.lists(inner, max_size=4).map(joined), st.just(["}"])).map(
            joined
        ),
        max_leaves=8,
    )


def joined(parts: Sequence[Sequence[str]]) -> list[str]:
    """One list of many."""
    return list(itertools.chain(*parts))


def token_lists(values: st.SearchStrategy[str] = VALUES) -> st.SearchStrategy[list[str]]:
    """Tokens of a whole pipeline."""
    return st.lists(statements(values), max_size=8).map(lambda body: ["digraph", "G", "{", *joined(body), "}"])


def laid_out(tokens: Sequence[str], fillers: Sequence[str]) -> str:
    """The tokens with something between them, before them and behind them."""
    endless = itertools.cycle(fillers)
    return "".join(next(endless) + token for token in tokens) + next(endless)


def texts(values: st.SearchStrategy[str] = VALUES) -> st.SearchStrategy[str]:
    """Whole pipelines, in every layout and with comments everywhere."""
    fillers = st.lists(st.tuples(BLANKS, COMMENTS | st.just(""), BLANKS).map("".join), min_size=1, max_size=7)
    return st.builds(laid_out, token_lists(values), fillers)


def plain(document: Document) -> object:
    """All of a document but its positions; orders count, and so do types."""
    return (
        document.id,
        _plain(document.attributes),
        [
            (node.id, _plain(node.attributes), node.is_declared, node.subgraph_classes)
            for node in document.nodes.values()
        ],
        [(edge.start, edge.end, _plain(edge.attributes)) for edge in document.edges],
    )


def _plain(attributes: dict[str, Attribute]) -> list[tuple[str, str, str, bool]]:
    return [(key, type(one.value).__name__, repr(one.value), one.is_default) for key, one in attributes.items()]
