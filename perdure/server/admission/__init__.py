"""Who is admitted, with what, and how often: all that a request passes before any route sees it."""
