"""The coverage of the data-access layer: which endpoints, methods, parameters, operators and errors tests have met."""
