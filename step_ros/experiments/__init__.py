"""The papers' tables: ablations and complexity."""
