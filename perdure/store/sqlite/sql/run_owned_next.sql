SELECT min(due_ms)
FROM runs
WHERE owner = ?1 AND caller_owned = 0 AND workflow IN (SELECT value FROM json_each(?2))
