"""API coverage: the endpoints, methods, parameters, operators and errors that tests have used."""
