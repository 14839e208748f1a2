"""Which known bug a wrong gradient of a linear layer is: those of the loss led on, and its own."""
