"""Adapters and prompts for a frozen backbone."""
