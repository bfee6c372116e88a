SELECT run_id FROM runs WHERE number = ?1
