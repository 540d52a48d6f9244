"""From a config to a bundle: tokens, fitting, evaluation."""
