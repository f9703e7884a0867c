//! What a circuit is: nodes, edges, ablations, tasks and the circuit file.

pub mod tasks;
