-- What a worker that is gone still owns.
SELECT
    run_id, workflow, version, status, reason, created_ms, updated_ms, due_ms, base_seq,
    epoch, owner, parent_id, caller_owned, tags, number
FROM runs
WHERE owner = ?1 AND due_ms <= ?2 AND caller_owned = 0
ORDER BY due_ms
