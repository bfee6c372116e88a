INSERT INTO events (run, seq, header, salt, payload) VALUES (?1, ?2, ?3, ?4, ?5)
