//! Words found in literals, file names and imports.

/// Words found in string literals.
pub(crate) const WORDS: &[&str] = &[
    "apple", "banana", "cherry", "grape", "lemon", "mango", "orange", "peach", "pear", "plum", "kiwi", "melon", "red",
    "green", "blue", "yellow", "purple", "black", "white", "brown", "pink", "gray", "cat", "dog", "bird", "fish",
    "horse", "rabbit", "tiger", "lion", "bear", "wolf", "fox", "snake", "monkey", "elephant", "small", "medium",
    "large", "north", "south", "east", "west", "spring", "summer", "autumn", "winter", "monday", "friday", "sunday",
    "admin", "guest", "editor", "viewer", "owner", "bread", "milk", "cheese", "butter", "coffee", "tea", "sugar",
    "salt", "rice", "pasta", "pizza", "soup", "salad", "chair", "table", "lamp", "sofa", "desk", "pen", "paper",
    "pencil", "laptop", "mouse", "keyboard", "screen", "phone", "camera", "guitar", "piano", "violin", "drum",
    "hammer", "screw", "nail", "paint", "brush", "north", "gold", "silver", "copper", "iron", "rock", "scissors",
];

/// Given names of people and names of places, capitalised.
pub(crate) const PROPER: &[&str] = &[
    "Alice", "Bob", "Carol", "David", "Emma", "Frank", "Grace", "Henry", "Irene", "Jack", "Kate", "Leo", "Maria",
    "Nina", "Oscar", "Paul", "Quinn", "Rosa", "Sam", "Tina", "Uma", "Victor", "Wendy", "Xavier", "Yara", "Zoe",
    "London", "Paris", "Berlin", "Madrid", "Rome", "Vienna", "Oslo", "Lisbon", "Tokyo", "Delhi", "Cairo", "Lima",
    "Boston", "Denver", "Austin", "Seattle", "Monday", "Friday", "Sunday", "January", "March", "June", "August",
];

/// Stems of files a program reads.
pub(crate) const READ_STEMS: &[&str] = &[
    "input",
    "data",
    "config",
    "settings",
    "source",
    "words",
    "names",
    "users",
    "students",
    "scores",
    "questions",
    "template",
    "dictionary",
    "numbers",
    "products",
    "customers",
    "orders",
    "prices",
    "grades",
    "recipes",
    "sample",
];

/// Stems of files a program writes.
pub(crate) const WRITE_STEMS: &[&str] = &[
    "output",
    "results",
    "report",
    "summary",
    "log",
    "export",
    "backup",
    "cleaned",
    "converted",
    "sorted",
    "filtered",
    "generated",
    "copy",
    "errors",
    "archive",
    "receipt",
    "invoice",
    "merged",
    "final",
    "statistics",
    "history",
];

/// Endings of file names.
pub(crate) const EXTENSIONS: &[&str] = &["txt", "txt", "csv", "json", "log", "md"];

/// Modules, as `import` lines.
pub(crate) const IMPORTS: &[&str] = &[
    "import os",
    "import sys",
    "import json",
    "import math",
    "import random",
    "import time",
    "import re",
    "import csv",
    "import logging",
    "from datetime import datetime",
    "from collections import defaultdict",
    "from collections import Counter",
    "from heapq import heappush, heappop",
    "from pathlib import Path",
    "from typing import List",
    "from typing import Dict, Optional",
    "import itertools",
    "import argparse",
    "from collections import deque",
    "import string",
    "from functools import reduce",
    "import numpy as np",
];
