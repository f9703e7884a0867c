//! Words that only programs use; those that prompts use too are in `openwork_tasks::words`.

/// Given names of people and names of places, capitalised.
pub(crate) const PROPER: &[&str] = &[
    "Alice", "Bob", "Carol", "David", "Emma", "Frank", "Grace", "Henry", "Irene", "Jack", "Kate", "Leo", "Maria",
    "Nina", "Oscar", "Paul", "Quinn", "Rosa", "Sam", "Tina", "Uma", "Victor", "Wendy", "Xavier", "Yara", "Zoe",
    "London", "Paris", "Berlin", "Madrid", "Rome", "Vienna", "Oslo", "Lisbon", "Tokyo", "Delhi", "Cairo", "Lima",
    "Boston", "Denver", "Austin", "Seattle", "Monday", "Friday", "Sunday", "January", "March", "June", "August",
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

/// Names of predicates.
pub(crate) const PREDICATES: &[&str] = &[
    "is_valid",
    "is_empty",
    "is_active",
    "is_ready",
    "is_open",
    "is_member",
    "is_prime",
    "is_even",
    "is_sorted",
    "is_full",
    "is_available",
    "is_allowed",
    "has_access",
    "has_items",
    "has_errors",
    "has_duplicates",
    "can_move",
    "can_start",
    "can_read",
    "contains",
    "exists",
    "check",
    "should_stop",
    "should_retry",
    "matches",
    "validate",
];
