"""HTTP as values: messages, URLs, headers and JSON text. No I/O."""
