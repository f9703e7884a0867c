//! Every differentiable operation and optimizer update of the weight-sparse transformer, forward and backward.
