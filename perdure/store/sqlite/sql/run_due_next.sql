SELECT min(due_ms) FROM runs WHERE workflow = ?1 AND owner IS NULL AND caller_owned = 0
