DELETE FROM waits WHERE run = ?1 AND wait_id = ?2
