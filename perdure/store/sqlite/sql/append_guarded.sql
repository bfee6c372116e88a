-- The first event of an append under a lease. The event's seq is null, and so refused, unless this worker still owns
-- the run under this epoch; the unique index refuses it when the head has moved.
INSERT INTO events (run, seq, header, salt, payload)
VALUES (?1, (SELECT ?2 FROM runs WHERE number = ?1 AND owner = ?6 AND epoch = ?7), ?3, ?4, ?5)
