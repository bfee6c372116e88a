INSERT OR REPLACE INTO waits (run, wait_id, kind, name, key, deadline_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
