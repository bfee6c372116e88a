UPDATE workers SET lease_end_ms = ?2 WHERE worker_id = ?1
