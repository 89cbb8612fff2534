"""The configuration of a server: its values, and the settings that the engine reads from them."""
