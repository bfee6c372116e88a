SELECT
    run_id, workflow, version, status, reason, created_ms, updated_ms, due_ms, base_seq,
    epoch, owner, parent_id, caller_owned, tags
FROM runs
WHERE run_id = ?1
