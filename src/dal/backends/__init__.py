"""The two interchangeable servers behind the data-access layer."""
