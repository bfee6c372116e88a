UPDATE runs
SET due_ms = 0, woken = (owner IS NOT NULL)
WHERE run_id = ?1 AND status NOT IN ('completed', 'failed', 'cancelled', 'paused')
