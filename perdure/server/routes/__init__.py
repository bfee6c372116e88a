"""The routes of the service, one module for each group; those of `/pipelines` are a room of their own."""
