"""A server and its databases, and the states that they can return to."""
