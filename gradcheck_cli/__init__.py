"""softgrad tells whether a softmax / cross-entropy gradient is right, from exported tensors."""
