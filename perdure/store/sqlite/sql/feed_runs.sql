SELECT runs.run_id, changed.seq
FROM (SELECT run, MAX(seq) AS seq FROM events WHERE pos > ?1 AND pos <= ?2 GROUP BY run) AS changed
JOIN runs ON runs.number = changed.run
