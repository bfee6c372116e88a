UPDATE runs SET owner = NULL, woken = 0 WHERE owner = ?1
