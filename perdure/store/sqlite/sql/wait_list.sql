-- {conditions} stands for the conditions that are asked for.
SELECT runs.run_id, runs.workflow, waits.wait_id, waits.kind, waits.name, waits.key, waits.deadline_ms
FROM waits
JOIN runs ON runs.number = waits.run
WHERE {conditions}
ORDER BY waits.number
LIMIT ?
