//! The weight-sparse transformer: configuration, parameter tree, forward, backward, named sites, checkpoints.
