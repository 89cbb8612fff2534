"""Documents: writing, reading, listing and purging them."""
