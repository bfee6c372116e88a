"""What is outside the grammar is refused where it stands."""

from __future__ import annotations

import pytest

from perdure.core.pipeline_errors import PipelineSyntaxError
from perdure.pipeline.syntax import MAX_DEPTH, parse, parse_tree
from perdure.pipeline.syntax.tree import Comment, EdgeStatement, NodeStatement, Subgraph


def refused(marked: str) -> PipelineSyntaxError:
    """The error of a text in which `¦` marks the place where it must be seen."""
    before, _, after = marked.partition("¦")
    with pytest.raises(PipelineSyntaxError) as caught:
        parse(before + after)
    lines = before.split("\n")
    assert (caught.value.line, caught.value.column) == (len(lines), len(lines[-1]) + 1), str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("marked", "message", "hint"),
    [
        ("¦strict digraph G {}", "strict graphs are refused", "digraph Name {"),
        ("¦graph G {}", "undirected graphs are refused", "digraph Name {"),
        ("¦Digraph G {}", "expected digraph, found Digraph", "digraph Name {"),
        ("digraph G { A ¦-- B }", "-- is an edge of an undirected graph", "use -> instead of --"),
        ("digraph G {}\n¦digraph H {}", "more than one graph", "a file of its own"),
        ("digraph G {} ¦;", "expected the end of the file, found ;", ""),
        ("digraph G { A [label=¦<b>] }", "HTML labels are refused", "quotes"),
        ("digraph G { A [x=1 ¦y=2] }", "expected , or ], found y", "separate attributes by commas"),
        ("digraph G { A [x=1¦; y=2] }", "expected , or ], found ;", "separate attributes by commas"),
        ("digraph G { A [x=1, ¦] }", "expected the key of an attribute, found ]", "the comma before ]"),
        ("digraph G { A [x=1,¦,y=2] }", "expected the key of an attribute, found ,", "one comma"),
        ("digraph G { A [¦] }", "expected the key of an attribute, found ]", "remove the brackets"),
        ("digraph G { A [¦\"x\"=1] }", "found a string", "without quotes"),
        ("digraph G { A [x¦] }", "the attribute x has no value", "key=value"),
        ("digraph G { A [x=¦] }", "expected a value behind =, found ]", 'an empty value is ""'),
        ("digraph G { A [x=1] ¦[y=2] }", "expected a statement, found [", "one pair of brackets"),
        ("digraph G { A [x=1] ¦-> B }", "expected a statement, found ->", "behind the last name"),
        ("digraph G { A¦:n -> B }", "ports are refused", "only the node's name"),
        ("digraph G { A -> B¦:n:sw }", "ports are refused", "only the node's name"),
        ("digraph G { A -> ¦{B C} }", "an edge leads to one node", "one edge for each node"),
        ("digraph G { A -> ¦subgraph { B } }", "found the keyword subgraph", ""),
        ("digraph G { subgraph { A } ¦-> B }", "not from a subgraph", "one edge for each node"),
        ("digraph G { ¦{ A } }", "expected a statement, found {", "subgraph"),
        ("digraph G { A -> ¦}", "the name of a node behind ->, found }", ""),
        ("digraph G { A -> ¦-> B }", "the name of a node behind ->, found ->", ""),
        ('digraph G { ¦"a b" -> C }', "names stand without quotes", "label="),
        ('digraph ¦"G" {}', "names stand without quotes", "label="),
        ("digraph ¦{}", "expected the graph's name, found {", ""),
        ("digraph ¦7 {}", "unexpected 7", "do not begin with a digit"),
        ("digraph G ¦A", "expected { behind the graph's name, found A", ""),
        ("digraph G { ¦a.b -> c }", "a.b is no name: it has dots", ""),
        ("digraph G { ¦a.b }", "a.b is no name: it has dots", ""),
        ("digraph G { a¦-b }", "unexpected -", "an edge is ->"),
        ("digraph G { Gr¦öße }", "unexpected ö", "A-Z a-z 0-9 _"),
        ("digraph G { node ¦= x }", "expected [ behind node, found =", "keyword"),
        ("digraph G { graph ¦-> A }", "expected [ behind graph, found ->", "keyword"),
        ("digraph G { ¦Node [shape=box] }", "the keyword Node", "in capitals, too"),
        ("digraph G { A -> ¦Edge }", "the keyword Edge", "in capitals, too"),
        ("digraph G { ¦strict }", "the keyword strict", "another name"),
        ("digraph G { A;¦; }", "expected a statement, found ;", "one ; at most"),
        ("digraph G {\n¦# no comment\n}", "unexpected #", "comments begin with //"),
        ("digraph G { A [c=¦#fff] }", "unexpected #", "put the value in quotes"),
        ("digraph G { A [c=¦'x'] }", "unexpected '", 'quotes are "'),
        ("digraph G { A [c=¦“x”] }", "unexpected “", 'quotes are "'),
        ('digraph G { A [c="x" ¦+ "y"] }', "unexpected +", "write one string"),
        ("digraph G { A [c=¦1e400] }", "1e400 is no value", "without an exponent"),
        ("digraph G { A [c=¦1.5h] }", "1.5h is no duration", "whole number"),
        ("digraph G { A [c=¦-5s] }", "-5s is no duration", "whole number"),
        ("digraph G { A [c=¦2w] }", "2w is no duration", "ms, s, m, h or d"),
        ("digraph G { A [c=¦.5] }", ".5 is no value", "quotes"),
        ("digraph G { A [c=¦5.] }", "5. is no value", "quotes"),
        ("digraph G { A [c=¦1.2.3] }", "1.2.3 is no value", "quotes"),
        ("digraph G { A [c=¦-] }", "- is no value", "quotes"),
        ('digraph G { A [c="a\\n¦\\l"] }', "there is no escape \\l", '\\" \\n \\t \\\\'),
        ('digraph G { A [c="\n ¦\\N"] }', "there is no escape \\N", '\\" \\n \\t \\\\'),
        ('digraph G { A [c="¦\\\nx"] }', "there is no escape", '\\" \\n \\t \\\\'),
        ('digraph G {\n A [c=¦"no end] }\n', "the string has no end", 'end it with "'),
        ('digraph G {\n A [c=¦"no end\\', "the string has no end", 'end it with "'),
        ("digraph G {\n ¦/* no end }\n *", "the comment has no end", "end it with */"),
        ("digraph G {\n ¦/*/ }", "the comment has no end", "end it with */"),
        ("digraph G {\n A\n¦", "the { of line 1 has no }", "end it with }"),
        ("digraph G {\n subgraph {\n } A¦", "the { of line 1 has no }", "end it with }"),
        ("digraph G {\n subgraph { A¦", "the { of line 2 has no }", "end it with }"),
        ("digraph G { A [x=1¦", "expected , or ], found the end of the file", ""),
        ("¦", "there is no graph", "write digraph Name"),
        ("// only this\n ¦", "there is no graph", "write digraph Name"),
        ("digraph G { A [c=¦9223372036854775808] }", "does not fit into 64 bits", "quotes"),
        ("digraph G { A [c=¦-9223372036854775809] }", "does not fit into 64 bits", "quotes"),
        (f"digraph G {{ A [c=¦{'9' * 5000}] }}", "does not fit into 64 bits", "quotes"),
        (f"digraph G {{ A [c=¦{'9' * 400}.0] }}", "the number is too large", "quotes"),
        ("digraph G {\r\n A\r\n ¦! }", "unexpected !", ""),
        ("digraph G { ¦\u00a0A }", "unexpected U+00A0", ""),
    ],
)  # fmt: skip
def test_what_is_outside_the_grammar_is_refused_with_its_place(marked: str, message: str, hint: str) -> None:
    error = refused(marked)
    assert message in error.message
    assert hint in error.hint
    assert "\n" not in error.message


def test_the_first_fault_is_the_one_that_is_told() -> None:
    assert "strict" in refused('¦strict graph { a -- "').message


@pytest.mark.parametrize("text", ["digraph G { A [c=9223372036854775807, d=-9223372036854775808, e=007] }"])
def test_integers_of_64_bits_are_accepted(text: str) -> None:
    node = parse(text).nodes["A"]
    assert [node.get(key) for key in "cde"] == [2**63 - 1, -(2**63), 7]


def nested(depth: int) -> str:
    return "digraph G {" + "subgraph {" * depth + "A" + "}" * (depth + 1)


def test_subgraphs_nest_up_to_the_limit_and_no_deeper() -> None:
    assert MAX_DEPTH == 64
    assert list(parse(nested(64)).nodes) == ["A"]
    with pytest.raises(PipelineSyntaxError, match="nested deeper than 64") as caught:
        parse(nested(65))
    assert caught.value.column == len("digraph G {" + "subgraph {" * 64) + 1
    with pytest.raises(PipelineSyntaxError, match="nested deeper than 64"):
        parse("digraph G {" + "subgraph {" * 100_000)


def test_the_tree_keeps_what_the_document_does_not() -> None:
    tree = parse_tree("// a\ndigraph G {\n A // b\n\n subgraph s { B -> C }\n} // c")
    node, comment, subgraph = tree.items
    assert isinstance(node, NodeStatement)
    assert comment == Comment("// b", (3, 4), is_trailing=True)  # type: ignore[arg-type]
    assert isinstance(subgraph, Subgraph)
    assert subgraph.name is not None
    assert (subgraph.name.text, subgraph.follows_blank_line) == ("s", True)
    assert isinstance(subgraph.items[0], EdgeStatement)
    assert [one.text for one in (*tree.head.comments, *tree.comments_after)] == ["// a", "// c"]
