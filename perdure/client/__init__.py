"""The typed client of the HTTP service; needs the extra `client`."""
