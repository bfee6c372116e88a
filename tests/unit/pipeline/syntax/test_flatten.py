"""Documents: scopes, defaults, chains and subgraphs dissolved."""

from __future__ import annotations

import pytest

from perdure.core.pipeline_errors import PipelineSyntaxError
from perdure.pipeline.document import Document, DurationText, Position, Value
from perdure.pipeline.syntax import MAX_ATTRIBUTES, parse
from perdure.pipeline.syntax.flatten import class_of_label


def graph(body: str) -> Document:
    return parse(f"digraph G {{ {body} }}")


def values(document: Document, node: str) -> dict[str, Value]:
    return {key: one.value for key, one in document.nodes[node].attributes.items()}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"a b"', "a b"),
        ('"\\"\\n\\t\\\\n"', '"\n\t\\n'),
        ('"raw\nline"', "raw\nline"),
        ('"// no comment"', "// no comment"),
        ('"/* nor this */"', "/* nor this */"),
        ('""', ""),
        ("7", 7),
        ("-7", -7),
        ("0.5", 0.5),
        ("-1.25", -1.25),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("900s", DurationText("900s")),
        ("250ms", DurationText("250ms")),
        ("summary:high", "summary:high"),
        ("gpt-5.2", "gpt-5.2"),
        ("wait.human", "wait.human"),
    ],
)
def test_a_value_has_the_type_that_it_is_written_in(written: str, value: Value) -> None:
    found = graph(f"A [k={written}]").nodes["A"].get("k")
    assert (type(found), found) == (type(value), value)


def test_a_whole_graph_on_one_line_is_read_with_and_without_semicolons() -> None:
    document = parse("digraph G{graph[goal=x]A[k=1];B C->D->E[w=2]F=3;}")
    assert list(document.nodes) == ["A", "B", "C", "D", "E"]
    assert [(edge.start, edge.end, edge.get("w")) for edge in document.edges] == [("C", "D", 2), ("D", "E", 2)]
    assert {key: one.value for key, one in document.attributes.items()} == {"goal": "x", "F": 3}


def test_positions_are_those_of_names_keys_and_arrows() -> None:
    document = parse('digraph G {\n  A [x="1\n2", yy=3]\n\tA -> B\n}')
    assert document.position == Position(1, 9)
    assert document.nodes["A"].position == Position(2, 3)
    assert document.nodes["A"].attributes["x"].position == Position(2, 6)
    assert document.nodes["A"].attributes["yy"].position == Position(3, 5)
    assert document.nodes["B"].position == Position(4, 7)
    assert document.edges[0].position == Position(4, 4)


def test_comments_and_strings_of_several_lines_count_as_lines() -> None:
    document = parse('/*\n*/ digraph G { // x\n a /* y\n\n z */ b [k="\n\r\n"] c\n}')
    assert document.position == Position(2, 12)
    assert [document.nodes[name].position for name in "abc"] == [Position(3, 2), Position(5, 7), Position(7, 4)]


def test_defaults_hold_for_later_statements_of_their_scope_and_end_with_it() -> None:
    document = graph("A node [k=1] B subgraph { C node [k=2, j=3] D subgraph { E } } F")
    assert {name: values(document, name) for name in document.nodes} == {
        "A": {},
        "B": {"k": 1},
        "C": {"k": 1},
        "D": {"k": 2, "j": 3},
        "E": {"k": 2, "j": 3},
        "F": {"k": 1},
    }


def test_defaults_apply_where_a_node_is_first_named_and_not_again() -> None:
    document = graph("A -> B node [k=1] A B [j=2] C -> A subgraph { node [k=5] C }")
    assert values(document, "A") == {}
    assert values(document, "B") == {"j": 2}
    assert values(document, "C") == {"k": 1}


def test_what_a_node_says_itself_is_no_default() -> None:
    document = graph("node [k=1, j=1] A [k=2] node [i=1]")
    assert {key: (one.value, one.is_default) for key, one in document.nodes["A"].attributes.items()} == {
        "k": (2, False),
        "j": (1, True),
    }


def test_defaults_of_edges_hold_in_their_scope() -> None:
    document = graph("a -> b edge [w=1] a -> c [x=2] subgraph { edge [w=3] c -> d } d -> e [w=4]")
    assert [{key: one.value for key, one in edge.attributes.items()} for edge in document.edges] == [
        {},
        {"w": 1, "x": 2},
        {"w": 3},
        {"w": 4},
    ]
    assert [edge.attributes["w"].is_default for edge in document.edges[1:]] == [True, True, False]


def test_every_hop_of_a_chain_has_attributes_of_its_own() -> None:
    document = graph("A -> B -> C [k=1]")
    del document.edges[0].attributes["k"]
    assert document.edges[1].get("k") == 1


def test_edges_between_the_same_nodes_all_count() -> None:
    assert len(graph("A -> B A -> B A -> A").edges) == 3


def test_a_node_that_is_declared_again_keeps_both_and_the_later_wins() -> None:
    document = graph("A [k=1, j=1] A -> B A [k=2, i=3, i=4]")
    assert values(document, "A") == {"k": 2, "j": 1, "i": 4}
    assert (document.nodes["A"].is_declared, document.nodes["B"].is_declared) == (True, False)


def test_a_label_of_a_subgraph_becomes_a_class_of_its_nodes() -> None:
    document = graph('subgraph { A -> B [k=1] label="Code Review!" subgraph { graph [label=Inner] C } } D A')
    assert {node.id: (node.get("class"), node.subgraph_classes) for node in document.nodes.values()} == {
        "A": ("code-review", ("code-review",)),
        "B": ("code-review", ("code-review",)),
        "C": ("code-review,inner", ("code-review", "inner")),
        "D": (None, ()),
    }  # fmt: skip


def test_classes_accumulate_without_duplicates_whatever_the_order() -> None:
    document = graph(
        'subgraph { label=x A B } subgraph { label=y A } subgraph { label=x A } A [class="own, x"] B [class=z]'
    )
    assert values(document, "A")["class"] == "own, x,y"
    assert document.nodes["A"].subgraph_classes == ("x", "y")
    assert values(document, "B")["class"] == "z,x"


def test_a_class_made_of_a_label_has_the_label_for_its_place() -> None:
    made = parse("digraph G {\n subgraph {\n  A\n  label=x\n }\n}").nodes["A"].attributes["class"]
    assert (made.value, made.position, made.is_default) == ("x", Position(4, 3), True)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Loop A", "loop-a"),
        ("a  b", "a--b"),
        ("Prüfung #2 (final)", "prfung-2-final"),
        ("x_y.z-1", "xyz-1"),
        ("\n\t", ""),
        ("日本", ""),
    ],
)
def test_a_class_is_what_is_left_of_a_label(label: str, name: str) -> None:
    assert class_of_label(label) == name


def test_attributes_of_a_subgraph_are_not_those_of_the_graph() -> None:
    document = graph("label=top subgraph { label=x rankdir=LR graph [goal=no] }")
    assert {key: one.value for key, one in document.attributes.items()} == {"label": "top"}
    assert graph("label=top A").nodes["A"].attributes == {}


def test_a_statement_may_assign_to_a_dotted_key() -> None:
    assert graph('stack.child_dotfile = "child.dot"').get("stack.child_dotfile") == "child.dot"


@pytest.mark.parametrize(
    "body",
    [
        "node [a=1, b=2, c=3] A B C D",
        "edge [a=1, b=2, c=3] A -> B -> C -> D",
        "A -> B -> C -> D [a=1, b=2, c=3]",
        "node [a=1, b=2, c=3] node [d=1] node [e=1]",
        "A [a=1, b=2, c=3, d=4, e=5, f=6, g=7, h=8, i=9]",
    ],
)
def test_a_document_has_a_limit_of_attributes(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.pipeline.syntax.flatten.MAX_ATTRIBUTES", 8)
    with pytest.raises(PipelineSyntaxError, match="more than 8 attributes") as caught:
        graph(body)
    assert caught.value.line == 1
    monkeypatch.setattr("perdure.pipeline.syntax.flatten.MAX_ATTRIBUTES", 100)
    graph(body)


def test_the_limit_of_attributes_is_a_million() -> None:
    assert MAX_ATTRIBUTES == 1_000_000
