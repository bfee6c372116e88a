SELECT events.header FROM events WHERE events.run = ?1 AND events.seq = ?2
