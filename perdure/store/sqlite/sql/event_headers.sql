SELECT seq, header FROM events WHERE run = ?1 ORDER BY seq
