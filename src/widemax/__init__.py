"""Softmax classification at any width."""
