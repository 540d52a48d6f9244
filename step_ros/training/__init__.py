"""Recipes, fitting and metrics: from clips to a bundle."""
