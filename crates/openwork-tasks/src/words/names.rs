//! Words that names of variables, functions and classes are made of.

use super::{Pool, pool};

/// Things that a program handles; every one takes a plain `s` in the plural.
pub const THINGS: Pool = pool!(
    &[
        "item", "user", "value", "node", "file", "line", "word", "record", "row", "column", "point", "order", "product",
        "customer", "student", "teacher", "book", "author", "page", "letter", "number", "player", "team", "game",
        "card", "event", "task", "job", "message", "token", "key", "edge", "path", "color", "shape", "animal", "car",
        "driver", "ticket", "seat", "room", "hotel", "flight", "street", "phone", "email", "account", "payment",
        "invoice", "report", "chart", "image", "pixel", "frame", "video", "song", "album", "artist", "recipe", "meal",
        "plant", "tree", "river", "lake", "mountain", "star", "planet", "robot", "sensor", "signal", "packet",
        "request", "response", "server", "client", "worker", "thread", "module", "package", "plugin", "option", "field",
        "form", "button", "window", "menu", "widget", "layer", "model", "sample", "feature", "target", "group",
        "member", "project", "course", "lesson", "question", "answer", "score", "test", "step", "rule", "filter",
        "result", "error", "warning", "comment", "review", "rating", "vote", "image", "asset", "device", "disk",
        "station", "train", "ship", "truck", "wheel", "engine", "tool", "part", "block", "chunk", "segment",
    ],
    programs_only: &[
        "column", "teacher", "path", "driver", "street", "invoice", "chart", "frame", "video", "meal", "lake",
        "mountain", "packet", "thread", "plugin", "widget", "feature", "filter", "warning", "rating", "vote", "asset",
        "disk", "truck", "wheel", "segment",
    ]
);

/// Names that hold a number.
pub const NUMBERS: Pool = pool!(
    &[
        "count", "total", "score", "price", "amount", "index", "level", "age", "size", "length", "width", "height",
        "depth", "limit", "offset", "speed", "weight", "balance", "rate", "step", "year", "month", "day", "hour",
        "minute", "second", "distance", "temperature", "quantity", "budget", "salary", "tax", "discount", "capacity",
        "position", "rank", "number", "result", "value", "sum", "average", "maximum", "minimum", "threshold", "points",
        "lives", "health", "energy", "power", "cost", "x", "y", "z", "n", "i", "j", "k", "a", "b", "num", "start",
        "end", "left", "right", "mode", "status", "code", "choice", "key", "current", "target", "timeout", "delay",
        "retries", "attempts",
    ],
    programs_only: &[
        "minute", "second", "temperature", "result", "sum", "maximum", "minimum", "x", "y", "z", "n", "i", "j", "k",
        "a", "b", "num", "start", "end", "left", "right", "key", "current", "timeout", "delay", "retries", "attempts",
    ]
);

/// Names that hold a text.
pub const TEXTS: Pool = pool!(
    &[
        "name", "title", "label", "message", "text", "word", "line", "path", "filename", "username", "password",
        "email", "city", "country", "color", "category", "status", "mode", "command", "answer", "query", "url", "host",
        "token", "prefix", "suffix", "description", "comment", "author", "genre", "brand", "role", "state", "kind",
        "language", "format", "key", "content", "header", "first_name", "last_name", "user_name", "file_name", "unit",
        "symbol",
    ],
    programs_only: &[
        "status", "mode", "key", "header", "first_name", "last_name", "user_name", "file_name", "unit", "symbol",
    ]
);

/// Names that hold a truth value.
pub const FLAGS: Pool = pool!(
    &[
        "done", "found", "active", "running", "valid", "ready", "finished", "enabled", "visible", "connected", "empty",
        "closed", "locked", "success", "failed", "changed", "verbose", "debug", "started", "stopped", "paused",
        "loaded", "saved", "updated", "available", "complete", "online", "hidden", "selected", "is_valid", "is_active",
        "is_open", "is_ready", "is_done", "is_empty", "has_error", "has_next", "game_over", "logged_in", "flag",
        "match",
    ],
    programs_only: &[
        "is_ready", "is_done", "is_empty", "has_error", "has_next", "game_over", "logged_in", "flag", "match",
    ]
);

/// Names that hold the result of a loop: a set or a text, decided by the assignment only.
pub const GATHERED: Pool = pool!(
    &[
        "current", "current", "current", "current", "result", "output", "seen", "visited", "buffer", "collected",
        "unique", "found", "letters", "words", "names", "chars", "combined", "joined", "selected", "values", "keys",
        "tags", "parts", "summary", "content", "matched", "used", "total", "line", "text", "path", "group", "pending",
        "answer", "items",
    ],
    programs_only: &["found", "selected", "total", "line", "text", "path", "pending", "answer", "items"]
);

/// Verbs of function names.
pub const VERBS: Pool = pool!(
    &[
        "get", "find", "load", "save", "read", "write", "parse", "print", "show", "build", "make", "create", "update",
        "delete", "remove", "add", "insert", "count", "compute", "check", "validate", "filter", "sort", "merge",
        "split", "convert", "format", "send", "fetch", "process", "handle", "run", "start", "stop", "reset", "open",
        "close", "select", "search", "draw", "move", "copy", "clean", "collect", "register", "schedule", "export",
        "render",
    ],
    programs_only: &[
        "print", "validate", "open", "close", "clean", "collect", "register", "schedule", "export", "render",
    ]
);

/// Qualities, for compound names and for messages.
pub const ADJECTIVES: Pool = pool!(
    &[
        "new", "old", "first", "last", "next", "previous", "current", "total", "active", "empty", "large", "small",
        "fast", "slow", "red", "blue", "green", "simple", "main", "local", "remote", "final", "initial", "random",
        "sorted", "hidden", "public", "private", "max", "min", "base", "extra", "open", "closed", "raw", "temp",
        "default", "special", "unknown", "missing", "valid", "invalid", "selected", "recent", "shared", "common",
    ],
    programs_only: &["current", "total", "sorted", "max", "min", "base", "open", "closed", "temp", "invalid"]
);

/// Endings of class names.
pub const ROLES: Pool = pool!(
    &[
        "Manager", "Handler", "List", "Store", "Service", "Builder", "Parser", "Reader", "Writer", "Tracker", "Counter",
        "Queue", "Cache", "Factory", "Controller", "Config", "Info", "Node", "Group", "Record",
    ],
    programs_only: &[]
);

/// Attributes of a class.
pub const ATTRIBUTES: Pool = pool!(
    &[
        "name", "age", "title", "price", "size", "color", "width", "height", "weight", "speed", "level", "score",
        "health", "power", "owner", "author", "year", "pages", "brand", "model", "engine", "capacity", "balance",
        "address", "email", "phone", "city", "country", "role", "status", "kind", "category", "parent", "left", "right",
        "value", "key", "data", "host", "port", "path", "mode", "limit", "rate", "salary", "grade", "rank", "position",
        "radius", "length", "depth", "start", "end", "label", "text", "message", "sender", "receiver", "amount", "date",
        "time", "location", "duration", "x", "y", "z", "id", "user", "team", "department", "description", "quantity",
        "species", "sound", "genre", "rating", "max_size", "first_name", "last_name", "user_id", "item_count",
        "next_node", "file_path", "start_time",
    ],
    programs_only: &[
        "sender", "receiver", "x", "y", "z", "department", "description", "quantity", "species", "sound", "genre",
        "rating", "max_size", "first_name", "last_name", "user_id", "item_count", "next_node", "file_path",
        "start_time",
    ]
);

/// Names that a swap exchanges.
pub const SWAPPED: &[&str] = &[
    "a", "b", "c", "x", "y", "z", "i", "j", "left", "right", "first", "second", "low", "high", "n", "m", "p", "q", "u",
    "v", "head", "tail", "start", "end", "lower", "upper", "old", "new",
];
