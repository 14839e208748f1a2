"""The mathematics, as pure functions on float64 blocks of rows; imports numpy alone.

Notation, used in every module here:

========  ===================  ==========================================================
symbol    shape                meaning
========  ===================  ==========================================================
``z``     (n, K)               logits, one row per example
``v``     (n, K)               c tanh(z/c) / T: the logits after softcap c and temperature T
``d``     (n, K)               v less its row's maximum m, so d <= 0; D = -d is the depth
``a``     (n, K)               softmax(v)
``S``     (n,)                 sum of exp(d) over the row, in [1, K]
``lse``   (n,)                 logsumexp(v) = m + log S
``y``     (n,)                 class index of a row
``q, Q``  (n, K), (n,)         effective target weights and their sum
``s``     (n,)                 upstream dE/d(row loss) over the divisor; 0 for ignored rows
``zeta``  (n,)                 2 lambda lse times the upstream over the z-loss divisor
``h``     scalar               finite-difference step
``u``     scalar               unit roundoff of a precision, half the spacing at 1
========  ===================  ==========================================================

The loss of a row is l = -sum_k q_k log a_k + lambda lse^2, its gradient at the logits is
((s Q + zeta) a - s q) dv/dz.
"""
