"""What `serve`, `dev` and `keys` do."""
