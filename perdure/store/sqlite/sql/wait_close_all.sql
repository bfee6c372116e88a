DELETE FROM waits WHERE run = ?1
