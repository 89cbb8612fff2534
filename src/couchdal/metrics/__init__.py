"""What hands the events of the seam on to systems that collect metrics; each needs the extra of its name."""
