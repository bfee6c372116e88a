-- Runs of one workflow that are due and that nobody owns, oldest first.
SELECT
    run_id, workflow, version, status, reason, created_ms, updated_ms, due_ms, base_seq,
    epoch, owner, parent_id, caller_owned, tags, number
FROM runs
WHERE workflow = ?1 AND due_ms <= ?2 AND owner IS NULL AND caller_owned = 0
ORDER BY due_ms
LIMIT ?3
