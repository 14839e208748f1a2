"""Which known bug a wrong gradient of the softmax layer alone is: `vjp` has no labels, so it has its own."""
