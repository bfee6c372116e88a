INSERT OR IGNORE INTO tags (tag, run) VALUES (?1, ?2)
