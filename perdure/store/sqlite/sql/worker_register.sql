INSERT OR REPLACE INTO workers (worker_id, host, pid, boot_id, lease_end_ms, started_ms, draining, workflows)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
