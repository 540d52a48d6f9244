"""Pure torch: backbone, heads, adapters, bundle."""
