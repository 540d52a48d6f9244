"""One file for each dataset that can be read."""
