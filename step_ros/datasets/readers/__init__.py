# SPDX-License-Identifier: Apache-2.0
"""Dataset readers, one file for each dataset."""
