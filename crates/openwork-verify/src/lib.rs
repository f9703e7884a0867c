//! Judges circuits: the ladder of tests, controls, intervals and verdicts.
