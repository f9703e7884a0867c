//! From tokens to a checkpoint: recipes, schedules, L0 annealing, the training step, resume.
