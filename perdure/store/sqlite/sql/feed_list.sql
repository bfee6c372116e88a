SELECT pos, run, header, salt, payload FROM events WHERE pos > ?1 ORDER BY pos LIMIT ?2
