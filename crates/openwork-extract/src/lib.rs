//! Finds circuits: learned node masks with mean ablation.
