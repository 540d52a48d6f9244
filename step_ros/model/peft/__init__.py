# SPDX-License-Identifier: Apache-2.0
"""Adapters and prompts: small trainable parts inside a frozen backbone."""
