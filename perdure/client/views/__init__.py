"""What the service tells, typed: frozen dataclasses whose `raw` holds whatever else was said."""
