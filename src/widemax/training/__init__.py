"""Training: from a config to a saved model, and the exact evaluation of one."""
