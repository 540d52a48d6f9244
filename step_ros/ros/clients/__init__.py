"""Clients that listen to a perception node."""
