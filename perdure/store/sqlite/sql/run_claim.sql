UPDATE runs SET owner = ?2, epoch = epoch + 1, woken = 0 WHERE number = ?1
