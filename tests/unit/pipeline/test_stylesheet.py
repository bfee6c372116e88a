"""The model stylesheet: selectors, which rule wins, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.core.pipeline_errors import StylesheetSyntaxError
from perdure.pipeline.document import Document, Position
from perdure.pipeline.stylesheet import PROPERTIES, Selector, parse_stylesheet
from tests.unit.pipeline.documents import Attributes, document


def styled(text: str, node: Attributes, *, defaults: Attributes | None = None) -> Document:
    result = document({"n": node}, defaults=defaults)
    parse_stylesheet(text).apply(result, Position(1, 1))
    return result


def model_of(text: str, node: Attributes, *, defaults: Attributes | None = None) -> object:
    return styled(text, node, defaults=defaults).nodes["n"].get("llm_model")


@pytest.mark.parametrize(
    ("text", "kind", "name", "specificity"),
    [("*", "all", "", 0), ("box", "shape", "box", 1), (".fast-1", "class", "fast-1", 2), ("#n_1", "id", "n_1", 3)],
)
@pytest.mark.clause("stylesheet-selectors")
def test_the_four_selectors_and_their_specificity(text: str, kind: str, name: str, specificity: int) -> None:
    (rule,) = parse_stylesheet(f"{text} {{ llm_model: m }}").rules
    assert (rule.selector.kind, rule.selector.name, rule.selector.specificity) == (kind, name, specificity)


@pytest.mark.parametrize("selector", ["*", "box", ".quick", "#n"])
def test_each_selector_matches(selector: str) -> None:
    assert model_of(f"{selector} {{ llm_model: m; }}", {"shape": "box", "class": "slow, quick"}) == "m"


@pytest.mark.parametrize("selector", ["hexagon", ".quic", ".Quick", "#m", "#N", "Box"])
def test_a_selector_of_something_else_does_not(selector: str) -> None:
    assert model_of(f"{selector} {{ llm_model: m; }}", {"shape": "box", "class": "slow, quick"}) is None


@pytest.mark.clause("stylesheet-selectors")
def test_a_node_without_a_shape_matches_box() -> None:
    assert model_of("box { llm_model: m }", {}) == "m"
    assert model_of("box { llm_model: m }", {"shape": "hexagon"}) is None


ORDER = ["*", "box", ".quick", "#n"]


@pytest.mark.parametrize("weaker", range(3))
@pytest.mark.clause("stylesheet-order")
def test_the_more_specific_rule_wins_wherever_it_stands(weaker: int) -> None:
    for stronger in range(weaker + 1, 4):
        low, high = f"{ORDER[weaker]} {{ llm_model: low }}", f"{ORDER[stronger]} {{ llm_model: high }}"
        for text in (low + high, high + low):
            assert model_of(text, {"shape": "box", "class": "quick"}) == "high"


@pytest.mark.clause("stylesheet-order")
def test_of_equals_the_later_rule_wins() -> None:
    assert model_of(".a { llm_model: older } .b { llm_model: newer }", {"class": "b,a"}) == "newer"
    assert model_of(".b { llm_model: older } .a { llm_model: newer }", {"class": "b,a"}) == "newer"
    assert model_of("* { llm_model: older } * { llm_model: newer }", {}) == "newer"
    assert model_of("* { llm_model: older; llm_model: newer }", {}) == "newer"
    assert (
        model_of(".a { llm_model: older } .b { llm_model: newer } .a { llm_provider: p }", {"class": "a,b"}) == "newer"
    )


def test_rules_win_property_by_property() -> None:
    text = "* { llm_model: m; llm_provider: p; reasoning_effort: low } #n { llm_model: best }"
    node = styled(text, {}).nodes["n"]
    assert {key: node.get(key) for key in PROPERTIES} == {
        "llm_model": "best",
        "llm_provider": "p",
        "reasoning_effort": "low",
    }


@pytest.mark.clause("stylesheet-order")
def test_an_explicit_attribute_of_the_node_wins_over_all() -> None:
    assert model_of("#n { llm_model: styled }", {"llm_model": "own"}) == "own"


def test_the_stylesheet_wins_over_a_default_of_a_node_statement() -> None:
    assert model_of("* { llm_model: styled }", {}, defaults={"llm_model": "default"}) == "styled"


def test_what_the_stylesheet_gave_is_no_explicit_attribute() -> None:
    twice = styled("* { llm_model: first }", {})
    parse_stylesheet("* { llm_model: second }").apply(twice, Position(1, 1))
    assert twice.nodes["n"].get("llm_model") == "second"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("*{llm_model:m}", "m"),
        ("* { llm_model: m; }", "m"),
        ("\n*\t{\r\n llm_model\n:\nm\n;\n}\n", "m"),
        ("* { llm_model: org/model-4.5:free }", "org/model-4.5:free"),
        ('* { llm_model: "two words; and }" }', "two words; and }"),
        (r'* { llm_model: "a \"b\" \\" }', 'a "b" \\'),
    ],
)
@pytest.mark.clause("stylesheet-syntax")
def test_how_a_value_is_written(text: str, value: str) -> None:
    assert model_of(text, {}) == value


@pytest.mark.parametrize("text", ["", " \n ", "* {}", "* { }"])
def test_a_stylesheet_may_say_nothing(text: str) -> None:
    assert all(rule.properties == {} for rule in parse_stylesheet(text).rules)


def test_a_rule_knows_where_it_stands() -> None:
    rules = parse_stylesheet("* { llm_model: a }\n\n  #n { llm_model: b } .c {}").rules
    assert [rule.position for rule in rules] == [(1, 1), (3, 3), (3, 23)]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("* { colour: red }", 1, 5),
        ("* {\n  llm_model: a;\n  llm_modle: b;\n}", 3, 3),
        ("* { LLM_MODEL: a }", 1, 5),
        ("!x { llm_model: a }", 1, 1),
        ("> { llm_model: a }", 1, 1),
        (". { llm_model: a }", 1, 2),
        ("# { llm_model: a }", 1, 2),
        ("#1 { llm_model: a }", 1, 2),
        (".a .b { llm_model: a }", 1, 4),
        (".a, .b { llm_model: a }", 1, 3),
        ("node[x] { llm_model: a }", 1, 5),
        ("*", 1, 2),
        ("* {", 1, 4),
        ("* { llm_model", 1, 14),
        ("* { llm_model }", 1, 15),
        ("* { llm_model: }", 1, 16),
        ("* { llm_model: ; }", 1, 16),
        ("* { llm_model: a", 1, 17),
        ("* { llm_model: a llm_provider: b }", 1, 18),
        ("* { llm_model: a;; }", 1, 18),
        ("* { llm_model = a }", 1, 15),
        ('* { llm_model: "a }', 1, 16),
        (r'* { llm_model: "a\n" }', 1, 16),
        ('* { llm_model: a"b" }', 1, 17),
        ("* { llm_model: a } }", 1, 20),
        ("/* c */ * {}", 1, 1),
        ("* { llm_model: a } x", 1, 21),
    ],
)
def test_anything_else_is_refused_with_its_place(text: str, line: int, column: int) -> None:
    with pytest.raises(StylesheetSyntaxError, match=f"line {line}, column {column} of the stylesheet$") as caught:
        parse_stylesheet(text)
    assert caught.value.code == "stylesheet_syntax"
    assert caught.value.ids == {"line": line, "column": column}


@pytest.mark.clause("stylesheet-syntax")
def test_only_the_three_properties_are_known() -> None:
    with pytest.raises(StylesheetSyntaxError) as caught:
        parse_stylesheet("* { temperature: 1 }")
    assert caught.value.hint == "there are llm_model, llm_provider, reasoning_effort"


def test_a_node_costs_what_it_matches_and_not_what_the_stylesheet_holds() -> None:
    stylesheet = parse_stylesheet("".join(f"#n{number} {{ llm_model: m{number} }}" for number in range(5_000)))
    many = document({f"n{number}": {} for number in range(5_000)})
    looked_up = 0

    class Counting(dict[Selector, object]):
        def get(self, key: Selector, default: object = None) -> object:
            nonlocal looked_up
            looked_up += 1
            return super().get(key, default)

    stylesheet._declared = Counting(stylesheet._declared)  # type: ignore[assignment]
    stylesheet.apply(many, Position(1, 1))
    assert many.nodes["n4999"].get("llm_model") == "m4999"
    assert looked_up == 5_000 * 3


PIECES = st.sampled_from(
    ["*", ".", "#", "a", "{", "}", ":", ";", " ", "\n", '"', "\\", "llm_model", "llm_provider: x;"]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=15).map("".join)))
@example("* { llm_model: " + "x" * 100_000)
@example("* {} " * 10_000 + "!")
@example('* { llm_model: "' + "\\\\" * 10_000)
@example("\n" * 10_000 + "?")
def test_any_text_is_a_stylesheet_or_an_error_with_a_place_in_it(text: str) -> None:
    try:
        stylesheet = parse_stylesheet(text)
    except StylesheetSyntaxError as error:
        line, column = error.ids["line"], error.ids["column"]
    else:
        assert all(set(rule.properties) <= set(PROPERTIES) for rule in stylesheet.rules)
        line, column = 1, 1
    lines = text.split("\n")
    assert 1 <= line <= len(lines)
    assert 1 <= column <= len(lines[line - 1]) + 1


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
RULES = st.tuples(
    st.sampled_from(["*", "box", "hexagon", ".a", ".b", "#n"]),
    st.dictionaries(st.sampled_from(PROPERTIES), WORDS, max_size=3),
)


@given(
    st.lists(RULES, max_size=6), st.sampled_from(["", "box", "hexagon"]), st.lists(st.sampled_from("abc"), max_size=2)
)
def test_the_winner_is_the_one_that_a_search_through_all_rules_finds(
    rules: list[tuple[str, dict[str, str]]], shape: str, classes: list[str]
) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = "".join(f"{name} {{ {'; '.join(f'{k}: {quoted(v)}' for k, v in p.items())} }}" for name, p in rules)
    matching = {"*": 0, shape or "box": 1, "#n": 3} | {f".{name}": 2 for name in classes}
    expected: dict[str, str] = {}
    for _, properties in sorted((rule for rule in rules if rule[0] in matching), key=lambda rule: matching[rule[0]]):
        expected |= properties
    node: Attributes = {"class": ",".join(classes)} | ({"shape": shape} if shape else {})
    assert parse_stylesheet(text).properties_of(document({"n": node}).nodes["n"]) == expected
