-- {conditions} stands for the conditions that are asked for.
SELECT
    run_id, workflow, version, status, reason, created_ms, updated_ms, due_ms, base_seq,
    epoch, owner, parent_id, caller_owned, tags
FROM runs
WHERE {conditions}
ORDER BY created_ms DESC, run_id DESC
LIMIT ?
