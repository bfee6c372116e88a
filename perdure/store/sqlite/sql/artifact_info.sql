SELECT length(data), media_type FROM artifacts WHERE sha256 = ?1
