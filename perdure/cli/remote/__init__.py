"""Commands on the runs of a service: the store port and the engine's commands over its HTTP."""
