UPDATE runs SET owner = NULL, woken = 0 WHERE run_id = ?1 AND owner = ?2
