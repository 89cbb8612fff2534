"""The parts of the pytest plugin. Its options and hooks are in ``couchdal.pytest_plugin``."""
