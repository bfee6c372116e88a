"""A `Flow`: nodes that say where to go next, with a cycle, and effects as data.

    perdure run examples/flow_cycle.py --input 'text=It is, well, simply very nice indeed' --input words=4

`shorten` goes round until the text is short enough:

    measure ──► judge ──► done
       ▲          │
       └─ shorten ◄┘

`measure` and `shorten` are effects as data: they name what is to be done, where its result is kept, and the next node.
`text.shorten` is an effect kind of this file's own. Each visit of a node is a checkpoint of its own.
"""

from __future__ import annotations

from perdure import Done, Effect, Fail, Flow, Next, Run, effect, step

FILLERS = ["well,", "simply", "very", "indeed", "really", "just", "quite"]


@step(kind="pure")
def drop_one(text: str) -> str:
    """The text without its first filler, or without its last word where there is none."""
    words = text.split()
    filler = next((word for word in words if word.lower() in FILLERS), words[-1])
    words.remove(filler)
    return " ".join(words)


@step(kind="pure")
def count_words(text: str) -> int:
    """How long a text is."""
    return len(text.split())


@effect("text.shorten")
async def shorten(run: Run, text: str) -> str:
    """An effect kind: a function of the run and of plain data."""
    return await run.step(drop_one, text)


flow = Flow("flow_cycle", input={"text": str, "words": int}, output=str, description="Shorten a text, word by word.")


@flow.node(to=["measure"])
async def begin(run: Run) -> Next | Fail:
    """Refuse nonsense, and put the text into the state."""
    if run.input["words"] < 1:
        return Fail("a text has at least one word", code="too_short")
    run.state["text"] = run.input["text"]
    return Next("measure")


@flow.node(to=["judge"])
async def measure(run: Run) -> Effect:
    """Count the words: the runtime calls the step, keeps the result as `length`, and goes on with `judge`."""
    return Effect("step", {"step": count_words, "args": {"text": run.state["text"]}}, save_as="length", next="judge")


@flow.node(to=["shorten"])
async def judge(run: Run) -> Next | Done:
    """Short enough?"""
    return Done(run.state["text"]) if run.state["length"] <= run.input["words"] else Next("shorten")


@flow.node(name="shorten", to=["measure"])
async def shorten_it(run: Run) -> Effect:
    """Shorten the text, and measure it again."""
    return Effect("text.shorten", {"text": run.state["text"]}, save_as="text", next="measure")
