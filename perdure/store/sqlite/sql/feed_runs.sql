SELECT runs.run_id
FROM (SELECT DISTINCT run FROM events WHERE pos > ?1 AND pos <= ?2) AS changed
JOIN runs ON runs.number = changed.run
