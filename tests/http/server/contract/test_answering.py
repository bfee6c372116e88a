"""Questions and answers: how a question is told, which answers it takes, and where they are found then."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.http.server.contract.pipelines import GATE, Pipelines, graph, pipelines


def gate(first: str, second: str, attributes: str = "") -> str:
    """A gate with two choices."""
    return graph(f"""ask [shape=hexagon{attributes}]; a [prompt=a]; start -> ask; ask -> a [label="{first}"];
        ask -> done [label="{second}"]; a -> done""")


async def test_a_question_is_told_with_these_members() -> None:
    dot = gate("[G] Go on", "Stop", ', label="Ready?", human.timeout=2h')
    async with pipelines() as place:
        question = await place.asked(await place.start(dot))
        about, opened = question.pop("metadata"), question.pop("inserted_at")
        assert opened.endswith("Z")
        assert about["node_id"] == "ask"
        assert question == {
            "id": question["id"],
            "text": "Ready?",
            "type": "MULTIPLE_CHOICE",
            "multiple": False,
            "required": True,
            "options": [
                {"key": "G", "label": "[G] Go on", "to": "a"},
                {"key": "S", "label": "Stop", "to": "done"},
            ],
            "timeout_seconds": 7200,
        }


async def test_the_choices_are_the_edges_that_are_open_in_the_order_of_the_file() -> None:
    dot = graph("""ask [shape=hexagon, prompt="Which?", label=no]; a [prompt=a]; b [prompt=b]; c [prompt=c];
        start -> ask; ask -> c [label="Same"]; ask -> a [label="Same", condition="context.x=1"];
        ask -> b [condition="context.x=2"]; ask -> done [label="S) Stop"]; a -> done; b -> done; c -> done""")
    async with pipelines() as place:
        question = await place.asked(await place.start(dot, context={"x": 2}))
        assert (question["text"], question["timeout_seconds"]) == ("Which?", None)
        assert question["options"] == [
            {"key": "S2", "label": "Same", "to": "c"},  # the accelerator of another comes first
            {"key": "B", "label": "b", "to": "b"},
            {"key": "S", "label": "S) Stop", "to": "done"},
        ]


async def test_open_questions_are_sorted_by_id() -> None:
    names = "abcdef"
    branches = " ".join(f"{one} [shape=hexagon]; fan -> {one} -> join;" for one in names)
    fan = "fan [shape=component, max_parallel=6]; join [shape=tripleoctagon];"
    dot = graph(f"{fan} {branches} start -> fan; join -> done")
    async with pipelines() as place:
        run = await place.start(dot)
        await place.until(run, "InterviewStarted", len(names))
        found = [one["id"] for one in await place.questions(run)]
        assert found == sorted(found)
        assert len(found) == len(names)
        told = [one for one in await place.events(run) if one["type"] == "PipelineQuestionsUpdated"][-1]
        assert [one["id"] for one in told["questions"]] == found


NAMED: list[tuple[tuple[str, str], Any, str]] = [
    (("Yes", "No"), True, "Y"),
    (("Yes", "No"), False, "N"),
    (("No", "Yes"), True, "Y"),
    (("Left", "Right"), "L", "L"),
    (("Left", "Right"), "right", "R"),
    (("Left", "Right"), "a", "L"),
    (("Left", "Right"), ["Right"], "R"),
    (("Left", "Right"), {"selection": {"key": "R"}}, "R"),
    (("Left", "Right"), {"answers": ["Left"]}, "L"),
]


async def test_an_answer_takes_the_edge_that_it_names() -> None:
    async with pipelines() as place:
        for labels, given, chosen in NAMED:
            run = await place.start(gate(*labels))
            question = await place.asked(run)
            assert (await place.answer(run, question["id"], given))[0] == 202
            await place.ended(run)
            (option,) = [one for one in question["options"] if one["key"] == chosen]
            assert (await place.context(run))["human"] == {
                "gate": {"selected": chosen, "label": option["label"]},
                "answers": {"ask": chosen},
            }
            went = (await place.checkpoint(run))["completed_nodes"]
            assert ("a" in went) is (option["to"] == "a"), (labels, given)


async def test_several_choices_are_told_everywhere_in_the_order_of_the_file() -> None:
    async with pipelines() as place:
        run = await place.start(gate("[A] One", "[B] Two", ", human.multiple=true"))
        question = await place.asked(run)
        assert (question["type"], question["multiple"]) == ("MULTIPLE_CHOICE", True)
        for wrong in ([], ["A", "C"], True):
            assert (await place.answer(run, question["id"], wrong))[0] == 422
        await place.post(run, "/cancel")
        assert (await place.answer(run, question["id"], {"values": ["Two", "a"]}))[0] == 202
        expected = {"gate": {"selected": ["A", "B"], "label": ["[A] One", "[B] Two"]}, "answers": {"ask": ["A", "B"]}}
        assert (await place.context(run))["human"] == expected
        (completed,) = [one for one in await place.events(run) if one["type"] == "InterviewCompleted"]
        assert completed["answer"] == ["A", "B"]
        await place.post(run, "/resume")
        await place.ended(run)
        assert (await place.context(run))["human"] == expected


async def test_free_text_of_any_length_is_kept_as_it_is() -> None:
    dot = graph('ask [shape=hexagon, human.input="text"]; work [prompt=x]; start -> ask -> work -> done')
    async with pipelines() as place:
        for text in (" as written ", "long " * 30_000):
            run = await place.start(dot)
            question = await place.asked(run)
            assert (question["type"], question["options"]) == ("FREEFORM", [])
            assert (await place.answer(run, question["id"], 5))[0] == 422
            assert (await place.answer(run, question["id"], text))[0] == 202
            summary = await place.ended(run)
            assert (summary["status"], summary["error"]) == ("success", None)
            for context in (await place.context(run), (await place.checkpoint(run))["context"]):
                assert context["human"]["answers"] == {"ask": text}
            (completed,) = [one for one in await place.events(run) if one["type"] == "InterviewCompleted"]
            assert completed["answer"] == text


async def test_of_many_answers_at_once_one_is_accepted() -> None:
    async with pipelines() as place:
        run = await place.start(GATE)
        question = await place.asked(run)
        tried = await asyncio.gather(*(place.answer(run, question["id"], "Y") for _ in range(6)))
        assert [one for one in tried if one[0] == 202] == [
            (202, {"pipeline_id": run, "question_id": question["id"], "accepted": True})
        ]
        assert [one for one in tried if one[0] != 202] == [(404, {"error": "question not found"})] * 5


async def test_the_alias_takes_either_name_of_each_member() -> None:
    async with pipelines() as place:
        for run_name, question_name in (("pipeline_id", "question_id"), ("id", "qid")):
            for given_name in ("answer", "value"):
                run = await place.start(GATE)
                question = await place.asked(run)
                body = {run_name: run, question_name: question["id"], given_name: "Y"}
                answer = await place.client.post("/answer", json=body)
                told = {"pipeline_id": run, "question_id": question["id"], "accepted": True}
                assert (answer.status_code, answer.json()) == (202, told)


async def test_every_422_holds_an_error_and_at_most_a_field_and_diagnostics() -> None:
    async with pipelines() as place:
        run = await place.start(GATE)
        question = await place.asked(run)
        refused = [await place.answer(run, question["id"], wrong) for wrong in (None, "Z", 7, [], {}, ["Y", "N"])]
        refused += [await start(place, dot=wrong) for wrong in (5, "digraph {", "digraph P { a -> b }")]
        refused += [await start(place, opts=wrong) for wrong in ("x", {"nope": 1}, {"pipeline_id": "a/b"})]
        refused += [await start(place, context=wrong) for wrong in ("text", [], {"a..b": 1})]
        for status, body in refused:
            assert status == 422, body
            assert set(body) - {"field", "diagnostics"} == {"error"}
            assert body["error"]
        assert await place.questions(run) == [question]


async def start(place: Pipelines, **members: Any) -> tuple[int, Any]:
    answer = await place.client.post("/pipelines", json={"dot": GATE, **members})
    return answer.status_code, answer.json()
