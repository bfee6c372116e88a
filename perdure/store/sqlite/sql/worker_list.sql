SELECT worker_id, host, pid, boot_id, lease_end_ms, started_ms, draining, workflows FROM workers ORDER BY worker_id
