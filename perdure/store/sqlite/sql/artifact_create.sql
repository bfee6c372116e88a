INSERT OR IGNORE INTO artifacts (sha256, media_type, data) VALUES (?1, ?2, ?3)
