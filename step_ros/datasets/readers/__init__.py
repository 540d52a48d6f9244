"""Dataset readers, one file for each dataset."""
