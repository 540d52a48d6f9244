# SPDX-License-Identifier: Apache-2.0
"""Experiments of the papers: ablations, and the complexity of heads and adapters."""
