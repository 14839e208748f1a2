"""The softmax layer alone: its problem, its blocks of rows, and what they are put through."""
