"""Questions to a person: a choice, several choices, yes or no, free text. Each has a default and a timeout.

    perdure run examples/question.py --input guest=Ada

On a terminal you are asked. Without one the defaults are taken at once. To see a run wait for days, detach it, and
answer from anywhere that reaches the store:

    perdure run examples/question.py --input guest=Ada --detach
    perdure questions
    perdure answer RUN Friday
    perdure worker examples/question.py
"""

from __future__ import annotations

from typing import Any

from perdure import Run, workflow

DAYS = ["Thursday", "Friday", "Saturday"]
DISHES = ["soup", "bread", "cheese", "cake"]


@workflow
async def question(run: Run, guest: str = "Ada") -> dict[str, Any]:
    """Plan a dinner, with questions of every kind."""
    day: str = await run.ask(f"When shall {guest} come?", choices=DAYS, default="Friday", timeout="3d")
    dishes: list[str] = await run.ask(
        "What is there to eat?", kind="multiple", choices=DISHES, default=["soup", "bread"], timeout="3d"
    )
    music: bool = await run.ask("Shall there be music?", kind="confirm", default=True, timeout="3d")
    toast: str = await run.ask("What is the toast?", default=f"To {guest}!", timeout="3d")
    return {"guest": guest, "day": day, "dishes": dishes, "music": music, "toast": toast}
