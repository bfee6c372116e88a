SELECT number, owner, epoch FROM runs WHERE run_id = ?1
