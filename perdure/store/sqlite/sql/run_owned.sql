-- What a worker that is gone still owns of these workflows (a JSON list) and is due, oldest first.
SELECT
    run_id, workflow, version, status, reason, created_ms, updated_ms, due_ms, base_seq,
    epoch, owner, parent_id, caller_owned, tags, number
FROM runs
WHERE
    owner = ?1
    AND due_ms <= ?2
    AND caller_owned = 0
    AND workflow IN (SELECT value FROM json_each(?3))
ORDER BY due_ms
LIMIT ?4
