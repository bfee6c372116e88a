"""Perdure measured beside its peers, in the same run, on the same disk. See README.md."""
