-- The last record of a run's journal.
SELECT seq, header FROM events
WHERE run = (SELECT number FROM runs WHERE run_id = ?1)
ORDER BY seq DESC
LIMIT 1
