"""What ties Perdure to other libraries: one module for each, each an extra of its own."""
