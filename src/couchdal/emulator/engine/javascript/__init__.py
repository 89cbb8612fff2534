"""The functions of design documents, and the JavaScript engine that runs them."""
