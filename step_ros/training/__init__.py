# SPDX-License-Identifier: Apache-2.0
"""From a config to a bundle: tokens, fitting, evaluation."""
