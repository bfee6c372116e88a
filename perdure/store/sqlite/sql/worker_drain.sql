UPDATE workers SET draining = 1 WHERE worker_id = ?1
