"""Streams of events: one reader of a journal, or of all, for everybody who follows it."""
