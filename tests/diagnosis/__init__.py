"""The catalogue against gradients that are wrong on purpose."""
