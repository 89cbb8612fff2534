"""What the pytest plugin does, apart from the hooks in which it does it."""
