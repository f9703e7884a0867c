//! Where nonzeros are (Pattern), what they hold (Csr), how they are chosen (top magnitude), with plain references.
