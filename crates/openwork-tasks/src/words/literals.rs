//! Words in string literals and file names.

use super::{Pool, pool};

/// Words in string literals.
pub const WORDS: Pool = pool!(
    &[
        "apple", "banana", "cherry", "grape", "lemon", "mango", "orange", "peach", "pear", "plum", "kiwi", "melon",
        "red", "green", "blue", "yellow", "purple", "black", "white", "brown", "pink", "gray", "cat", "dog", "bird",
        "fish", "horse", "rabbit", "tiger", "lion", "bear", "wolf", "fox", "snake", "monkey", "elephant", "small",
        "medium", "large", "north", "south", "east", "west", "spring", "summer", "autumn", "winter", "monday", "friday",
        "sunday", "admin", "guest", "editor", "viewer", "owner", "bread", "milk", "cheese", "butter", "coffee", "tea",
        "sugar", "salt", "rice", "pasta", "pizza", "soup", "salad", "chair", "table", "lamp", "sofa", "desk", "pen",
        "paper", "pencil", "laptop", "mouse", "keyboard", "screen", "phone", "camera", "guitar", "piano", "violin",
        "drum", "hammer", "screw", "nail", "paint", "brush", "north", "gold", "silver", "copper", "iron", "rock",
        "scissors",
    ],
    programs_only: &[
        "snake", "monkey", "elephant", "editor", "viewer", "owner", "phone", "piano", "violin", "drum", "hammer",
        "screw", "nail", "paint", "brush", "gold", "silver", "copper", "iron", "rock", "scissors",
    ]
);

/// Stems of files that a program reads.
pub const READ_STEMS: Pool = pool!(
    &[
        "input", "data", "config", "settings", "source", "words", "names", "users", "students", "scores", "questions",
        "template", "dictionary", "numbers", "products", "customers", "orders", "prices", "grades", "recipes", "sample",
    ],
    programs_only: &[]
);

/// Stems of files that a program writes.
pub const WRITE_STEMS: Pool = pool!(
    &[
        "output", "results", "report", "summary", "log", "export", "backup", "cleaned", "converted", "sorted",
        "filtered", "generated", "copy", "errors", "archive", "receipt", "invoice", "merged", "final", "statistics",
        "history",
    ],
    programs_only: &[]
);
