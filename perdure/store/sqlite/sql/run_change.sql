UPDATE runs
SET
    status = coalesce(?2, status),
    reason = coalesce(?3, reason),
    due_ms = CASE
        WHEN woken AND coalesce(?2, status) NOT IN ('completed', 'failed', 'cancelled', 'paused') THEN 0
        ELSE coalesce(?4, due_ms)
    END,
    base_seq = coalesce(?5, base_seq),
    owner = CASE WHEN ?6 THEN NULL ELSE owner END,
    woken = CASE WHEN ?6 THEN 0 ELSE woken END,
    updated_ms = ?7
WHERE number = ?1
