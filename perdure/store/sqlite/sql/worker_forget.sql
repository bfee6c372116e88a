DELETE FROM workers WHERE worker_id = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE owner = ?1)
