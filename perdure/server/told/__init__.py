"""What answers hold, for the OpenAPI document. The answers themselves are made of plain data, and cost no check."""
