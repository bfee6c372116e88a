SELECT data FROM artifacts WHERE sha256 = ?1
