"""Functions of design documents, run by a JavaScript engine."""
