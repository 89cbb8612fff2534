"""What indexes of every kind share."""
