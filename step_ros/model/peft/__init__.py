"""Adapters and prompts: small trainable parts inside a frozen backbone."""
