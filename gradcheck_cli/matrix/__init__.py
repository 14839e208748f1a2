"""The Jacobian of one row's softmax: its problem, and what its rows are put through."""
