"""A linear layer under softmax cross-entropy: its problem, its rows, and what they are put through."""
