"""`parallel.fan_in`: the join of a fan-out, which says which branch came out best."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from perdure.core.canonical import canonical
from perdure.pipeline.asking import ask
from perdure.pipeline.context import find
from perdure.pipeline.outcome import Outcome, failure
from perdure.pipeline.stage import MARKDOWN, Stage

RANK: Final = {"success": 0, "partial_success": 1, "retry": 2, "skipped": 3, "fail": 4}


async def join_branches(stage: Stage) -> Outcome:
    """Choose the best branch: the model ranks where there is a prompt; else by status, then score, then id."""
    results: Any = find(stage.context.view, "parallel.results")
    if not isinstance(results, list) or not results:
        return failure("there are no branches to join", retryable=False)
    ranked = sorted(results, key=lambda one: (RANK.get(one["outcome"], len(RANK)), -one["score"], one["id"]))
    best = ranked[0]
    if stage.settings.prompt:
        best = await _best_by_model(stage, ranked)
    updates = {
        "parallel.fan_in.best_id": best["id"],
        "parallel.fan_in.best_outcome": best["outcome"],
    }
    if all(one["outcome"] == "fail" for one in results):
        failed = failure("every branch failed", retryable=False).with_updates(updates)
        return replace(failed, decided=True)
    return Outcome(context_updates=updates, notes=f"best: {best['id']}")


async def _best_by_model(stage: Stage, ranked: list[dict[str, Any]]) -> dict[str, Any]:
    """The branch that the model names first; where it names none, the first by the rule."""
    told = "\n".join(
        canonical({key: one[key] for key in ("id", "outcome", "output", "score")}).decode() for one in ranked
    )
    prompt = f"{stage.settings.prompt}\n\nBranches, one a line:\n{told}\n\nAnswer with the id of the best branch."
    stage.keep("prompt.md", prompt, MARKDOWN)
    reply = await ask(stage, prompt)
    stage.keep("response.md", reply.text, MARKDOWN)
    by_id = {one["id"]: one for one in ranked}
    named = (word for word in re.findall(r"[A-Za-z0-9_]+", reply.text) if word in by_id)
    return by_id[next(named, ranked[0]["id"])]
