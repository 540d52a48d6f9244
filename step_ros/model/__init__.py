# SPDX-License-Identifier: Apache-2.0
"""Pure torch: backbone, heads, adapters, bundle."""
