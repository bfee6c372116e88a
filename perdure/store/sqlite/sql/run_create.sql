INSERT INTO runs (
    run_id, workflow, version, status, reason, created_ms, updated_ms, due_ms, base_seq,
    epoch, owner, parent_id, caller_owned, tags
)
VALUES (?1, ?2, ?3, 'pending', '', ?4, ?4, ?5, 1, ?6, ?7, ?8, ?9, ?10)
