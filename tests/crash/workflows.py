"""Workflows of every form, for the crash matrix: between them they use whatever a journal can hold."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from perdure import Backoff, Done, Effect, Flow, Next, NotDone, Plan, Run, current_step, effect, step, workflow
from perdure.testing import record_effect

# --- steps ------------------------------------------------------------------------------------------------------------


@step(kind="pure")
def double(number: int) -> int:
    twice = number * 2
    return twice


@step(kind="read")
async def look_up(name: str) -> dict[str, int]:
    await asyncio.sleep(0)
    found = {name: len(name)}
    return found


@step(kind="idempotent")
async def charge(cents: int) -> str:
    key = current_step().idempotency_key
    await asyncio.sleep(0)
    return f"charged {cents} under {key[:6]}"


@step(kind="idempotent")
def reserve(seat: str) -> str:
    time.sleep(0.001)
    return f"seat {seat}"


@step(kind="once")
async def post(text: str) -> str:
    length = len(text)
    await asyncio.sleep(0)
    return f"posted {length} characters"


@step(kind="once")
async def send(text: str) -> str:
    greeting = f"Dear reader, {text}"
    record_effect("sent", text=greeting)
    return greeting


# --- one function -----------------------------------------------------------------------------------------------------


@workflow
async def order(run: Run, cents: int, seats: list[str]) -> dict[str, Any]:
    """Steps of each kind, state, an event, an artifact, a question about a large value, a timer, and a fan-out."""
    run.state["cents"] = cents
    twice = await run.step(double, cents)
    found = await run.step(look_up, "Ada")
    paid = await run.step(charge, twice)
    run.emit("paid", {"cents": twice})
    tickets = {"paid": paid, "letter": "Dear Ada, " * 10_000}
    answer = await run.ask("Send the tickets?", choices=["yes", "no"], approve=tickets)
    taken = await run.map(reserve, seats, limit=2)
    run.state["seats"] = taken
    await run.sleep("2h")
    posted = await run.step(post, paid)
    sent = await run.step(send, posted)
    run.put(sent, name="letter")
    del run.state["cents"]
    return {"found": found, "paid": paid, "answer": answer, "taken": taken, "sent": sent, "left": dict(run.state)}


# --- retries, failures, timeouts --------------------------------------------------------------------------------------

BUSY = Path("busy")


@step(kind="idempotent", retries=3, backoff=Backoff(initial_s=60, jitter=0))
async def stubborn(times: int) -> bool:
    """Fails so many times; the world outside keeps the count, as it survives a crash."""
    tries = int(BUSY.read_text()) if BUSY.exists() else 0
    BUSY.write_text(str(tries + 1))
    if tries < times:
        raise ConnectionError("busy")
    return tries >= times


@step(kind="read")
def missing() -> str:
    raise FileNotFoundError("nothing there")


@workflow
async def troubled(run: Run) -> list[Any]:
    """A step that fails and is tried again, one that fails for good, a question and a signal that time out."""
    found: list[Any] = [await run.step(stubborn, 2)]
    try:
        await run.step(missing)
    except Exception as error:
        found.append(type(error).__name__)
    found.append(await run.ask("Anybody there?", timeout="1d", default="nobody"))
    try:
        await run.wait_for("help", timeout="1d")
    except Exception as error:
        found.append(type(error).__name__)
    return found


# --- a once step with a probe -----------------------------------------------------------------------------------------

BOOK = Path("book")


def was_paid(invoice: str) -> object:
    paid = BOOK.exists() and invoice in BOOK.read_text().split()
    return Done(f"paid {invoice}") if paid else NotDone


@step(kind="once", probe=was_paid, timeout="10s")
def pay(invoice: str) -> str:
    with BOOK.open("a") as book:
        book.write(f"{invoice}\n")
    record_effect("paid", invoice=invoice)
    return f"paid {invoice}"


@workflow
async def payment(run: Run, invoice: str) -> tuple[str, int]:
    """A payment whose probe looks into the book."""
    paid = await run.step(pay, invoice)
    lines = await run.step(count_lines)
    return paid, lines


@step(kind="read")
def count_lines() -> int:
    lines = BOOK.read_text().splitlines()
    return len(lines)


# --- signals, children, generations, blocking code --------------------------------------------------------------------


@workflow
async def child(run: Run, number: int) -> int:
    await run.sleep("1m")
    return await run.step(double, number)


@workflow
async def failing_child(run: Run) -> None:
    await run.step(missing)


@workflow
async def parent(run: Run) -> list[Any]:
    """Children side by side, one that fails, and a signal that says when to stop."""
    children = [await run.spawn(child, number) for number in (1, 2)]
    broken = await run.spawn(failing_child)
    signal = await run.wait_for("stop", match="now")
    outcomes: list[Any] = [await one.result() for one in children]
    try:
        await broken.result()
    except Exception as error:
        outcomes.append(type(error).__name__)
    return [*outcomes, signal]


@workflow
async def rounds(run: Run, left: int = 2) -> int:
    """Goes on as a new generation of itself."""
    run.state["rounds"] = run.state.get("rounds", 0) + 1
    await run.step(charge, left)
    if left:
        await run.continue_as(left=left - 1)
    return int(run.state["rounds"])


@workflow
def blocking(run: Any, name: str) -> list[Any]:
    """A plain function, which gets the blocking face of the run."""
    run.state["name"] = name
    first = run.step(look_up, name)
    answer = run.ask("Go on?", kind="confirm")
    return [first, answer, run.step(post, name), run.state["name"]]


@workflow
async def side_by_side(run: Run) -> dict[str, Any]:
    """Branches with effects of their own, and state that merges."""

    async def strand(number: int) -> str:
        run.state[f"strand {number}"] = number
        await run.sleep(f"{number + 1}m")
        return await run.step(post, "x" * number)

    async with run.branch("first") as first:
        await first.step(charge, 1)
        first.state["first"] = True
    results = await run.gather(strand(1), strand(2), run.step(reserve, "7A"))
    return {"results": results, "state": dict(run.state)}


@step(kind="idempotent")
async def bake(size: int) -> str:
    cake = "cake " * size
    return cake


@workflow
async def large(run: Run) -> int:
    """Values that are kept as artifacts."""
    cake = await run.step(bake, 20_000)
    run.state["cake"] = cake
    await run.step(post, cake)
    return len(run.state["cake"])


# --- a flow with a cycle ----------------------------------------------------------------------------------------------


@effect("shop.charge")
async def charge_it(run: Run, cents: int) -> str:
    return await run.step(charge, cents)


loop = Flow("loop", input={"rounds": int}, output=list[Any])


@loop.node(to=["work", "finish"])
async def begin(run: Run) -> Next:
    visits = run.state.get("visits", 0) + 1
    run.state["visits"] = visits
    return Next("work" if visits <= run.input["rounds"] else "finish", output=visits)


@loop.node(to=["pause"])
async def work(run: Run) -> Effect:
    return Effect("shop.charge", {"cents": run.state["visits"]}, save_as="receipt", next="pause")


@loop.node(to=["begin"])
async def pause(run: Run) -> Next:
    await run.sleep("1h")
    await run.step(post, run.state["receipt"])
    return Next("begin")


@loop.node
async def finish(run: Run) -> Done:
    return Done([run.state["visits"], run.state["receipt"]])


# --- a plan that fans out ---------------------------------------------------------------------------------------------

trip = Plan("trip", mode="fan_out", limit=3, output="trip.book.all")


@trip.state("trip.find.dates", kind="read")
async def find_dates(days: int) -> list[int]:
    dates = list(range(days))
    return dates


@trip.state("trip.book.hotel", kind="idempotent", inputs={"dates": "trip.find.dates"})
def book_hotel(dates: list[int]) -> str:
    nights = len(dates)
    return f"hotel for {nights} nights"


@trip.state("trip.book.train", kind="once", inputs={"dates": "trip.find.dates"})
async def book_train(dates: list[int]) -> str:
    start = dates[0]
    return f"train on day {start}"


@trip.state("trip.book.guide", after=["trip.find.dates"])
async def book_guide(run: Run) -> str:
    run.state["guide"] = await run.ask("Which guide?", choices=["Ada", "Bob"])
    await run.sleep("10m")
    return f"guide {run.state['guide']}"


@trip.state("trip.book.all", after=["trip.book.hotel", "trip.book.train", "trip.book.guide"])
async def book_all(run: Run) -> list[str]:
    names = ("trip.book.hotel", "trip.book.train", "trip.book.guide")
    return [*(run.outputs[name] for name in names), run.state["guide"]]
